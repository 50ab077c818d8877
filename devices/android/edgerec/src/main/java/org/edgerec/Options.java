package org.edgerec;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Options for opening a bundle. */
public final class Options {
    /** Maximum number of threads: onnxruntime would start them all. */
    private static final int MOST_THREADS = 1024;

    boolean verify = true;
    int threads = 1;
    List<byte[]> trusted;
    long minRollbackIndex;

    /** Compare the sha256 of the tables; true by default. Sizes and the sha256 of graphs are always compared. */
    public Options verify(boolean verify) {
        this.verify = verify;
        return this;
    }

    /** Set the threads of a call, 0..1024; 1 by default, 0 lets onnxruntime choose. Throws RequestException. */
    public Options threads(int threads) {
        if (threads < 0 || threads > MOST_THREADS) {
            throw new RequestException("threads must be a whole number in 0.." + MOST_THREADS + ", got " + threads);
        }
        this.threads = threads;
        return this;
    }

    /**
     * Add a trusted public key: one of the trusted keys must have signed the bundle. sha256 detects damage, a signature
     * identifies the author. With trusted keys, every file is compared.
     *
     * @param key the text of a .pub file of {@code edgerec keys new}.
     */
    public Options trust(String key) {
        List<byte[]> keys = new ArrayList<>(trusted == null ? Collections.<byte[]>emptyList() : trusted);
        keys.add(Signatures.rawKey(key));
        trusted = keys;
        return this;
    }

    /**
     * Refuse a bundle with a smaller rollback index, with a SignatureException; 0 by default. A signature identifies
     * the author, and not which of the author's bundles is the latest.
     *
     * @throws RequestException a negative number.
     */
    public Options minRollbackIndex(long index) {
        if (index < 0) {
            throw new RequestException("a rollback index is a whole number from 0 on, got " + index);
        }
        minRollbackIndex = index;
        return this;
    }
}
