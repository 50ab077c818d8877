package org.edgerec;

import static org.edgerec.PatchException.need;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Map;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/** A patch file (docs/reference/patch.md): its header, and the parts after it, taken in order. */
final class PatchParts {
    private static final int HEAD = 52;
    private static final int SIGNED_FROM = 44;
    private static final int PIECE = 1 << 16;

    final Map<?, ?> header;
    /** Size of the inflated stream in bytes. */
    final long inflated;
    private final Inflater inflater = new Inflater();
    /** The inflated part of the stream, up to `filled`; it grows on demand. */
    private byte[] stream = new byte[0];
    private int filled;
    private int at;

    /**
     * Read a patch's header.
     *
     * @param baseBytes size of the base bundle, which limits the size of the inflated stream.
     */
    PatchParts(byte[] patch, long baseBytes) {
        if (patch.length < HEAD || !new String(patch, 0, 8, StandardCharsets.ISO_8859_1).equals("edgerecP")) {
            throw new PatchException("this is no patch; make one with 'edgerec diff OLD NEW --out PATCH'");
        }
        ByteBuffer head = ByteBuffer.wrap(patch).order(ByteOrder.LITTLE_ENDIAN);
        int major = head.getShort(8) & 0xFFFF;
        if (major > Spec.PATCH_MAJOR) {
            throw new PatchException(
                    "the patch has version " + major + ".x, this reader knows " + Spec.PATCH_MAJOR + ".x; update edgerec");
        }
        byte[] signed = Arrays.copyOfRange(patch, SIGNED_FROM, patch.length);
        String promised = Signatures.hexadecimal(Arrays.copyOfRange(patch, 12, SIGNED_FROM));
        need(Signatures.sha256(signed).equals(promised), "its sha256 differs");
        inflated = head.getLong(SIGNED_FROM);
        long most = Math.min(Spec.INFLATED * baseBytes + Spec.INFLATED_ROOM, Integer.MAX_VALUE - 8);
        need(inflated >= 0 && inflated <= most, inflated + " bytes for a bundle of " + baseBytes);
        inflater.setInput(patch, HEAD, patch.length - HEAD);
        int end = -1;
        for (int bytes = PIECE; end < 0 && bytes < Spec.HEADER_BYTES + PIECE; bytes += PIECE) {
            int searched = filled;
            ready(bytes);
            for (int n = searched; n < filled && end < 0; n++) {
                end = stream[n] == '\n' ? n : -1;
            }
        }
        need(end >= 0 && end <= Spec.HEADER_BYTES, "it has no header of at most " + Spec.HEADER_BYTES + " bytes");
        header = parsed(take(end));
        String version = major + "." + (head.getShort(10) & 0xFFFF);
        need(version.equals(header.get("version")), "its header is of another version");
        at = end + 1;
    }

    /** Inflate at least `bytes` after the last part that was taken, or to the end. */
    void ready(long bytes) {
        int wanted = (int) Math.min(at + bytes, inflated);
        if (wanted > stream.length) {
            stream = Arrays.copyOf(stream, wanted);
        }
        try {
            while (filled < wanted) {
                int more = inflater.inflate(stream, filled, wanted - filled);
                need(more > 0, "its stream has another length than promised");
                filled += more;
            }
        } catch (DataFormatException error) {
            throw PatchException.damaged(String.valueOf(error.getMessage()));
        }
    }

    /** Refuse a stream that is longer than promised, or has parts that were not taken. */
    void end() {
        need(left() == 0, "it brings other files than its manifest names");
        try {
            boolean over = inflater.finished() || inflater.inflate(new byte[1]) == 0 && inflater.finished();
            need(over && inflater.getRemaining() == 0, "its stream has another length than promised");
        } catch (DataFormatException error) {
            throw PatchException.damaged(String.valueOf(error.getMessage()));
        }
    }

    /** Release the inflater. */
    void close() {
        inflater.end();
    }

    private static Map<?, ?> parsed(byte[] text) {
        Object fields;
        try {
            fields = Json.parse(text);
        } catch (IllegalArgumentException error) {
            throw PatchException.damaged("its header is " + error.getMessage());
        }
        need(fields instanceof Map && "edgerec.patch".equals(((Map<?, ?>) fields).get("format")), "it has no header");
        return (Map<?, ?>) fields;
    }

    /** The number of bytes that are not taken yet. */
    long left() {
        return inflated - at;
    }

    byte[] take(long size) {
        need(size >= 0 && size <= left(), "a part of " + size + " bytes where " + left() + " are left");
        need(at + size <= filled, "its manifest takes more than it can");
        at += (int) size;
        return Arrays.copyOfRange(stream, at - (int) size, at);
    }

    /** Take numbers that are stored in byte planes: the lowest bytes of all, then the second ones, and so on. */
    Units values(long count, int size) {
        need(count >= 0 && count <= left() / size, count + " numbers where there are fewer");
        byte[] stored = take(count * size);
        byte[] bytes = new byte[stored.length];
        for (int plane = 0; plane < size; plane++) {
            for (int n = 0; n < count; n++) {
                bytes[n * size + plane] = stored[plane * (int) count + n];
            }
        }
        return new Units(bytes, size);
    }

    /**
     * Take copies that build `target` units from a base of `base` units.
     *
     * @param least minimum of the average units per run, except for one run.
     */
    Copies copies(long count, long base, long target, int least) {
        need(count <= target / least + 1, count + " runs that make " + target);
        need(count >= 0 && count <= left() / 12, count + " copies where there are fewer");
        Copies copies = new Copies(values(3 * count, 4), (int) count);
        need(copies.fit(base, target), "it copies what is not there");
        return copies;
    }

    /** Unsigned whole numbers of 1, 2, 4 or 8 bytes, little-endian; values that are too large wrap around. */
    static final class Units {
        final byte[] bytes;
        final int size;
        private final ByteBuffer view;

        Units(byte[] bytes, int size) {
            this.bytes = bytes;
            this.size = size;
            view = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        }

        int count() {
            return bytes.length / size;
        }

        long get(int n) {
            switch (size) {
                case 1:
                    return bytes[n] & 0xFF;
                case 2:
                    return view.getShort(2 * n) & 0xFFFF;
                case 4:
                    return view.getInt(4 * n) & 0xFFFFFFFFL;
                default:
                    return view.getLong(8 * n);
            }
        }

        void set(int n, long value) {
            switch (size) {
                case 1:
                    bytes[n] = (byte) value;
                    break;
                case 2:
                    view.putShort(2 * n, (short) value);
                    break;
                case 4:
                    view.putInt(4 * n, (int) value);
                    break;
                default:
                    view.putLong(8 * n, value);
            }
        }
    }

    /** Instructions to build an array from a base: runs that are copied, with inserted units between them. */
    static final class Copies {
        private final long[] starts;
        private final long[] counts;
        private final long[] inserted;

        private Copies(Units numbers, int count) {
            starts = new long[count];
            counts = new long[count];
            inserted = new long[count];
            long end = 0;
            for (int n = 0; n < count; n++) {
                long skip = numbers.get(n);
                // 0, -1, 1, -2, ... are stored as 0, 1, 2, 3, ...
                starts[n] = end + (skip % 2 == 1 ? -(skip + 1) / 2 : skip / 2);
                counts[n] = numbers.get(count + n);
                inserted[n] = numbers.get(2 * count + n);
                end = starts[n] + counts[n];
            }
        }

        private boolean fit(long base, long target) {
            long sum = 0;
            for (int n = 0; n < starts.length; n++) {
                sum += counts[n] + inserted[n];
                if (starts[n] < 0 || starts[n] + counts[n] > base || sum > target) {
                    return false;
                }
            }
            return sum == target;
        }

        /** The number of inserted units. */
        long inserted() {
            long sum = 0;
            for (long count : inserted) {
                sum += count;
            }
            return sum;
        }

        /** Write the target's bytes, with inserted bytes from the next part. */
        void write(ByteBuffer base, PatchParts parts, ByteBuffer target) {
            ByteBuffer between = ByteBuffer.wrap(parts.take(inserted()));
            for (int n = 0; n < starts.length; n++) {
                ByteBuffer run = base.duplicate();
                run.limit((int) (starts[n] + counts[n])).position((int) starts[n]);
                target.put(run);
                ByteBuffer more = between.duplicate();
                more.limit(between.position() + (int) inserted[n]);
                target.put(more);
                between.position(more.limit());
            }
        }

        /** Return for each unit the base unit that it is copied from, -1 for inserted ones. */
        int[] sources(int target) {
            int[] found = new int[target];
            Arrays.fill(found, -1);
            BitSet taken = new BitSet();
            int at = 0;
            for (int n = 0; n < starts.length; n++) {
                for (int unit = 0; unit < counts[n]; unit++) {
                    int source = (int) starts[n] + unit;
                    need(!taken.get(source), "a row is copied twice");
                    taken.set(source);
                    found[at + unit] = source;
                }
                at += (int) (counts[n] + inserted[n]);
            }
            return found;
        }
    }
}
