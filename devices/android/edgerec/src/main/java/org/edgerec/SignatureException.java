package org.edgerec;

/** A bundle that no trusted key signed as it is. */
public final class SignatureException extends BundleException {
    private static final long serialVersionUID = 1;

    SignatureException(String message) {
        super(message);
    }
}
