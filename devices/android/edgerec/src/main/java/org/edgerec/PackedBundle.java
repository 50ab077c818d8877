package org.edgerec;

import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/** A bundle in one file (docs/reference/bundle.md, "A bundle in one file"), read from its beginning to its end. */
final class PackedBundle {
    private static final String MAGIC = "edgerecB";
    private static final int START_BYTES = 24;
    private static final int ALIGNMENT = 64;

    final Manifest manifest;
    private final String name;
    private final InputStream stream;
    /** The manifest, and the other files but the tables in ascending order of their names. */
    private final byte[] head;
    private final int manifestBytes;
    private final List<Manifest.Entry> files;
    private final long tablesStart;

    /**
     * Read all but the tables.
     *
     * @param name of the file, for messages.
     * @throws BundleException no bundle in one file, a damaged one, or one of a newer major version.
     */
    PackedBundle(InputStream stream, String name) throws IOException {
        this.stream = stream;
        this.name = name;
        byte[] start = read(START_BYTES);
        if (!new String(start, 0, MAGIC.length(), StandardCharsets.ISO_8859_1).equals(MAGIC)) {
            throw new BundleException(
                    name + " is no bundle in one file; make one with edgerec pack, or load a folder");
        }
        ByteBuffer numbers = ByteBuffer.wrap(start).order(ByteOrder.LITTLE_ENDIAN);
        int major = numbers.getShort(8) & 0xFFFF;
        if (major != Spec.MAJOR) {
            throw new BundleException(name + " has version " + major + "." + (numbers.getShort(10) & 0xFFFF)
                    + ", this reader knows versions up to " + Spec.MAJOR + ".x; update edgerec");
        }
        long stored = numbers.getInt(12) & 0xFFFFFFFFL;
        long inflated = numbers.getInt(16) & 0xFFFFFFFFL;
        long first = numbers.getInt(20) & 0xFFFFFFFFL;
        need(Math.max(stored, inflated) <= Spec.HEAD_BYTES, "a head of more than " + Spec.HEAD_BYTES + " bytes");
        need(stored <= inflated, "a head that is longer as it is stored");
        need(first <= Math.min(inflated, Manifest.MOST_BYTES), "a manifest of " + first + " bytes");
        byte[] content = read((int) stored);
        head = stored == inflated ? content : inflated(content, (int) inflated);
        manifestBytes = (int) first;
        manifest = new Manifest(Arrays.copyOf(head, manifestBytes));
        files = manifest.files();
        files.remove(manifest.tables);
        files.sort(Comparator.comparing(entry -> entry.file));
        need(manifest.bytes - manifest.tables.bytes == head.length, "a head of other files than its manifest names");
        int zeros = (int) (-(START_BYTES + stored) & ALIGNMENT - 1);
        for (byte one : read(zeros)) {
            need(one == 0, "no zeros before its tables");
        }
        tablesStart = START_BYTES + stored + zeros;
    }

    /** Refuse a file that is longer or shorter than its parts. */
    void demandLength(long length) {
        long parts = tablesStart + manifest.tables.bytes;
        need(length == parts, "it has " + length + " bytes, and its parts have " + parts);
    }

    /** Write the files into an empty folder, and compare each by sha256; the tables are never held in memory. */
    void write(File folder) throws IOException {
        int at = manifestBytes;
        for (Manifest.Entry entry : files) {
            write(new ByteArrayInputStream(head, at, (int) entry.bytes), folder, entry);
            at += (int) entry.bytes;
        }
        write(stream, folder, manifest.tables);
        byte[] document = Arrays.copyOf(head, manifestBytes);
        write(new ByteArrayInputStream(document), folder,
                new Manifest.Entry(Manifest.NAME, manifestBytes, Signatures.sha256(document)));
    }

    private static void write(InputStream from, File folder, Manifest.Entry entry) throws IOException {
        Bundles.write(from, new File(folder, entry.file), entry.bytes, entry.sha256);
    }

    private byte[] read(int bytes) throws IOException {
        byte[] content = new byte[bytes];
        try {
            new DataInputStream(stream).readFully(content);
        } catch (EOFException error) {
            throw damaged("it is shorter than its parts");
        }
        return content;
    }

    private byte[] inflated(byte[] stored, int bytes) {
        byte[] content = new byte[bytes];
        Inflater inflater = new Inflater();
        try {
            inflater.setInput(stored);
            int filled = 0;
            for (int more = 1; more > 0 && filled < bytes; filled += more) {
                more = inflater.inflate(content, filled, bytes - filled);
            }
            // The end of the stream may follow the last byte.
            boolean ends = inflater.finished() || inflater.inflate(new byte[1]) == 0 && inflater.finished();
            need(filled == bytes && ends && inflater.getRemaining() == 0, "a head of another length than promised");
        } catch (DataFormatException error) {
            throw damaged(String.valueOf(error.getMessage()));
        } finally {
            inflater.end();
        }
        return content;
    }

    private void need(boolean holds, String reason) {
        if (!holds) {
            throw damaged(reason);
        }
    }

    private BundleException damaged(String reason) {
        return new BundleException(name + " is damaged (" + reason + "); get it again");
    }
}
