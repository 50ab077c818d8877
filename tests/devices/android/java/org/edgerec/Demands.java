package org.edgerec;

/** What the programs of the tests demand; what does not hold ends them. */
final class Demands {
    private Demands() {}

    static void demand(boolean holds, Object said) {
        if (!holds) {
            throw new AssertionError(said);
        }
    }

    /** Something that may be refused. */
    interface Act {
        void run() throws Exception;
    }

    /** Demand an error of a class, whose message has these words. */
    static void refuses(Class<? extends EdgeRecException> kind, String message, Act act) throws Exception {
        try {
            act.run();
        } catch (EdgeRecException error) {
            demand(kind == error.getClass() && error.getMessage().contains(message), error);
            return;
        }
        throw new AssertionError("no error where this is expected: " + message);
    }
}
