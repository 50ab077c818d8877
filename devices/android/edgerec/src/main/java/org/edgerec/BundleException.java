package org.edgerec;

/** A bundle that is missing, incomplete, damaged, altered, or newer than this reader. Messages name the file. */
public class BundleException extends EdgeRecException {
    private static final long serialVersionUID = 1;

    BundleException(String message) {
        super(message);
    }

    BundleException(String message, Throwable cause) {
        super(message, cause);
    }
}
