package org.edgerec;

/** A bundle without a valid signature of a trusted key. */
public final class SignatureException extends BundleException {
    private static final long serialVersionUID = 1;

    SignatureException(String message) {
        super(message);
    }
}
