package org.edgerec;

import java.util.Collection;
import java.util.Collections;

/**
 * Who asks, and for what. Ids are whole numbers (Long, Integer, Short, Byte) or text, as the bundle has them.
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

    /** A user whom the bundle knows. */
    public static Request ofUser(Object user) {
        return new Request(user, null);
    }

    /** The items of somebody's past, each counted once; they do not come back. May be empty. */
    public static Request ofHistory(Collection<?> items) {
        return new Request(null, items);
    }

    /** How many; 10. */
    public Request k(int k) {
        this.k = k;
        return this;
    }

    /** Items that must not come back. */
    public Request exclude(Collection<?> items) {
        exclude = items;
        return this;
    }

    /** The only items that may come back; null for all. */
    public Request allow(Collection<?> items) {
        allow = items;
        return this;
    }
}
