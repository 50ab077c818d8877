package org.edgerec;

/** Ways to treat ids of a history, an exclude list or an allow-list that the bundle does not know. */
public enum OnUnknown {
    /** Throw a RequestException. */
    ERROR,
    /**
     * Leave them out, as if they were not given: a history of such ids alone is an empty one, and an allow-list of them
     * allows nothing.
     */
    SKIP
}
