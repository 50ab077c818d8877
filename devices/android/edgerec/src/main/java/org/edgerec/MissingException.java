package org.edgerec;

/** Something that the device should provide is missing: onnxruntime, cryptography, storage for a history, a
 * writable file. */
public final class MissingException extends EdgeRecException {
    private static final long serialVersionUID = 1;

    MissingException(String message, Throwable cause) {
        super(message, cause);
    }
}
