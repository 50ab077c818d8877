package org.edgerec;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** How a bundle is opened. */
public final class Options {
    /** More than any machine makes use of; onnxruntime would start them all. */
    private static final int MOST_THREADS = 1024;

    boolean verify = true;
    int threads = 1;
    List<byte[]> trusted;

    /** Compare the sha256 of the tables too; true. Sizes, and the graphs' sha256, always are. */
    public Options verify(boolean verify) {
        this.verify = verify;
        return this;
    }

    /** onnxruntime's threads for one answer; 1. Throws RequestException outside 0..1024; 0 leaves it to onnxruntime. */
    public Options threads(int threads) {
        if (threads < 0 || threads > MOST_THREADS) {
            throw new RequestException("threads must be a whole number in 0.." + MOST_THREADS + ", got " + threads);
        }
        this.threads = threads;
        return this;
    }

    /**
     * A public key: the bundle must be signed by one of those that are given. sha256 shows that a bundle is whole, not
     * who made it. Every file is compared then.
     *
     * @param key the text of a .pub file that {@code edgerec keys new} made.
     */
    public Options trust(String key) {
        List<byte[]> keys = new ArrayList<>(trusted == null ? Collections.<byte[]>emptyList() : trusted);
        keys.add(Signatures.rawKey(key));
        trusted = keys;
        return this;
    }
}
