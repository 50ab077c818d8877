package org.edgerec;

/** What this device should offer is not there: cryptography, room for a history, a file that can be written. */
public final class MissingException extends EdgeRecException {
    private static final long serialVersionUID = 1;

    MissingException(String message, Throwable cause) {
        super(message, cause);
    }
}
