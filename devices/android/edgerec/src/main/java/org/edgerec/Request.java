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

    /** Set what is done about ids of the lists and of the history that the bundle does not know; ERROR by default. */
    public Request onUnknown(OnUnknown how) {
        onUnknown = how;
        return this;
    }
}
