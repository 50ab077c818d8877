package org.edgerec;

/** Every error that a caller can cause, with a message that says what happened, why, and what mends it. */
public class EdgeRecException extends RuntimeException {
    private static final long serialVersionUID = 1;

    EdgeRecException(String message) {
        super(message);
    }

    EdgeRecException(String message, Throwable cause) {
        super(message, cause);
    }
}
