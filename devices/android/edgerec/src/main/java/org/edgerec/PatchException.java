package org.edgerec;

/** A patch that is damaged, too new, or for another bundle; nothing was changed. */
public final class PatchException extends EdgeRecException {
    private static final long serialVersionUID = 1;

    PatchException(String message) {
        super(message);
    }

    static PatchException damaged(String reason) {
        return new PatchException("the patch is damaged (" + reason + "); get it again");
    }

    /** Refuse a patch if a condition does not hold. */
    static void need(boolean holds, String reason) {
        if (!holds) {
            throw damaged(reason);
        }
    }
}
