package org.edgerec;

/** A recommended item and its score. */
public final class Recommendation {
    /** The item's raw id: a Long or a String. */
    public final Object item;

    public final float score;

    Recommendation(Object item, float score) {
        this.item = item;
        this.score = score;
    }

    @Override
    public String toString() {
        return item + " " + score;
    }
}
