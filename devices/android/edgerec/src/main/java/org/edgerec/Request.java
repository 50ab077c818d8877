package org.edgerec;

import java.util.Collection;
import java.util.Collections;

/**
 * A request for recommendations. Ids are whole numbers (Long, Integer, Short, Byte) or text, as in the bundle.
 *
 * <pre>{@code
 * Request.ofUser(42).k(10).exclude(Arrays.asList(50, 181))
 * Request.ofHistory(Arrays.asList(1, 7)).allow(inStock)
 * }</pre>
 */
public final class Request {
    final Object user;
    final Collection<?> history;
    int k = 10;
    Collection<?> exclude = Collections.emptyList();
    Collection<?> allow;

    private Request(Object user, Collection<?> history) {
        this.user = user;
        this.history = history;
    }

    /** Create a request for a user of the bundle. */
    public static Request ofUser(Object user) {
        return new Request(user, null);
    }

    /** Create a request for a history of items. Each counts once, and is not recommended. May be empty. */
    public static Request ofHistory(Collection<?> items) {
        return new Request(null, items);
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
}
