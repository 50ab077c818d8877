package org.edgerec;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.function.IntToDoubleFunction;

/** The weights of items in a history, which tell how rare an item is: rare ones weigh more. */
final class Weights {
    private static final String NAME = "w";

    private final ByteBuffer stored;
    private final boolean bytes;
    private final double smallest;
    private final double largest;

    private Weights(ByteBuffer stored, boolean bytes, int rows) {
        this.stored = stored;
        this.bytes = bytes;
        double least = Double.POSITIVE_INFINITY;
        double most = 0;
        for (int row = 0; row < rows; row++) {
            least = Math.min(least, at(row)); // NaN if one is
            most = Math.max(most, at(row));
        }
        smallest = least;
        largest = most;
    }

    /** Read the weights of a bundle; null if it has none, all are equal, or one is not a finite number above 0. */
    static Weights of(Bundle bundle) {
        Manifest.Section section = bundle.manifest.sections.get(NAME);
        int rows = bundle.manifest.items.rows;
        if (section == null || !section.dtype.matches("uint8|float32")
                || !Arrays.equals(section.shape, new long[] {rows})) {
            return null;
        }
        Weights weights = new Weights(bundle.tables.section(NAME), section.dtype.equals("uint8"), rows);
        boolean differ = weights.smallest > 0 && weights.smallest < weights.largest;
        return differ && weights.largest <= Float.MAX_VALUE ? weights : null;
    }

    /**
     * Return (weight / the largest weight)^rarity by row, or for a rarity below 0 with the smallest weight: numbers
     * above 0 and at most 1.
     */
    IntToDoubleFunction factors(double rarity) {
        double unit = rarity > 0 ? largest : smallest;
        if (!bytes) {
            return row -> Math.pow(at(row) / unit, rarity);
        }
        double[] byCode = new double[256];
        Arrays.setAll(byCode, code -> Math.pow(ofByte(code) / unit, rarity));
        return row -> byCode[stored.get(row) & 0xFF];
    }

    private double at(int row) {
        return bytes ? ofByte(stored.get(row) & 0xFF) : stored.getFloat(4 * row);
    }

    /** Return the number of a byte, up to a factor that all weights of a bundle share. */
    private static double ofByte(int code) {
        return (double) code * code * code * code;
    }
}
