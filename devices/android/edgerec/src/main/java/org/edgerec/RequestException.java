package org.edgerec;

/** A question that a bundle cannot answer: an unknown user or item, a k outside the catalogue. */
public final class RequestException extends EdgeRecException {
    private static final long serialVersionUID = 1;

    RequestException(String message) {
        super(message);
    }
}
