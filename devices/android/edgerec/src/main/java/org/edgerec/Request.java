package org.edgerec;

import java.util.Collection;
import java.util.Collections;

/**
 * A request for recommendations. Ids are whole numbers (Long, Integer, Short, Byte) or text, as in the bundle.
 *
 * <pre>{@code
 * Request.ofUser(42).k(10).exclude(Arrays.asList(50, 181))
 * Request.ofHistory(Arrays.asList(1, 7)).allow(inStock).onUnknown(OnUnknown.SKIP)
 * Request.ofItem(50).k(5).exclude(seen)
 * }</pre>
 */
public final class Request {
    final Object user;
    final Collection<?> history;
    final float[] vector;
    final Object item;
    int k = 10;
    Collection<?> exclude = Collections.emptyList();
    Collection<?> allow;
    double rarity;
    OnUnknown onUnknown = OnUnknown.ERROR;

    private Request(Object user, Collection<?> history, float[] vector, Object item) {
        this.user = user;
        this.history = history;
        this.vector = vector;
        this.item = item;
    }

    /** Create a request for a user of the bundle. */
    public static Request ofUser(Object user) {
        return new Request(user, null, null, null);
    }

    /** Create a request for a history of items. Each counts once, and is not recommended. May be empty. */
    public static Request ofHistory(Collection<?> items) {
        return new Request(null, items, null, null);
    }

    /**
     * Create a request for a user's own vector, of a bundle with an 'encode' graph: d numbers, the largest between 2^-32
     * and 2^32. Nothing is excluded for it.
     */
    public static Request ofVector(float[] vector) {
        return new Request(null, null, vector, null);
    }

    /** Create a request for items similar to an item. */
    public static Request ofItem(Object item) {
        return new Request(null, null, null, item);
    }

    /** Create a request for nobody in particular, whose answer is popular items. */
    public static Request ofNobody() {
        return new Request(null, null, null, null);
    }

    /** Set the number of items; 10 by default. */
    public Request k(int k) {
        this.k = k;
        return this;
    }

    /** Set items that must not be recommended. */
    public Request exclude(Collection<?> items) {
        exclude = items;
        return this;
    }

    /** Set the only items that may be recommended; null for all. */
    public Request allow(Collection<?> items) {
        allow = items;
        return this;
    }

    /**
     * Set how much rare items come first: a number from -2 to 2, 0 by default. Above 0 rare items come more often, below
     * 0 popular ones; an empty history is answered as with 0. Only recommend uses it.
     *
     * <p>A score above 0 is multiplied by (w / m)^rarity, others are divided by it. w is the weight of the item in a
     * history, which is larger for rare items; m is the largest weight of all items, or the smallest if the rarity is
     * below 0. The bundle must be one without users, of a linear encoder whose weights are above 0 and not all equal;
     * recommend throws a RequestException for others, and for numbers outside of -2..2. It ranks all items, which takes
     * longer in a large catalogue, unless the list of {@link #allow} is short.
     */
    public Request rarity(double rarity) {
        this.rarity = rarity;
        return this;
    }

    /** Set what is done about ids of the lists and of the history that the bundle does not know; ERROR by default. */
    public Request onUnknown(OnUnknown how) {
        onUnknown = how;
        return this;
    }
}
