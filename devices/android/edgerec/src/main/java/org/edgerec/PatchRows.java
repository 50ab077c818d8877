package org.edgerec;

import static org.edgerec.PatchException.need;

import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** The rows of a section of a tables file, in any layout, which patches copy and change. */
final class PatchRows {
    private static final int WIDTH = 1;
    private static final int BITS = 2;
    private static final int BY_COLUMN = 3;
    private static final int ZERO = 4;

    final PatchParts.Units units;
    /** For each row: the position of its first unit, the distance of its units, their number, the padding value. */
    final int[] first;
    final int[] step;
    final int[] width;
    final long[] zero;
    private final boolean pointers;
    private final long[][] blocks;

    /**
     * Allocate the rows of a form without values.
     *
     * @param size bytes of an entry of the section.
     * @param entries number of entries of the section.
     * @param lengths lengths of ragged rows, by the section with their pointers.
     */
    private PatchRows(Map<?, ?> form, int size, long entries, Map<String, int[]> lengths) {
        pointers = form.containsKey("pointers");
        int[] ragged = null;
        if (pointers) {
            blocks = new long[][] {{Math.max(entries - 1, 0), 1, 8 * size, 0, 0}};
        } else if (form.containsKey("lengths")) {
            ragged = lengths.get((String) form.get("lengths"));
            need(ragged != null, "nothing is known of the lengths of " + form.get("lengths"));
            long sum = Arrays.stream(ragged).asLongStream().sum();
            blocks = new long[][] {{1, sum, (Long) form.get("bits"), 0, (Long) form.get("zero")}};
        } else {
            List<?> listed = (List<?>) form.get("blocks");
            blocks = new long[listed.size()][];
            for (int n = 0; n < blocks.length; n++) {
                blocks[n] = ((List<?>) listed.get(n)).stream().mapToLong(one -> (Long) one).toArray();
            }
        }
        long count = 0;
        long capacity = 0;
        long rows = 0;
        for (long[] block : blocks) {
            boolean right = block.length == 5
                    && (block[BITS] == 8L * size || size == 1 && (block[BITS] == 2 || block[BITS] == 4));
            for (long number : block) {
                right &= number >= 0 && number <= Integer.MAX_VALUE || number == block[ZERO];
            }
            need(right && (ragged != null || block[WIDTH] > 0), "a block " + Arrays.toString(block));
            count += unitsOf(block);
            capacity += unitsOf(block) / shared(block);
            rows += block[0];
            need(capacity <= (pointers ? Math.max(entries - 1, 0) : entries), "a section whose rows take more");
        }
        need(blocks.length > 0 && count * size <= Integer.MAX_VALUE - 8, "a section of " + count + " units");
        int all = ragged == null ? (int) rows : ragged.length;
        units = new PatchParts.Units(new byte[(int) count * size], size);
        first = new int[all];
        step = new int[all];
        width = new int[all];
        zero = new long[all];
        layOut(ragged);
    }

    private void layOut(int[] ragged) {
        int unit = 0;
        int row = 0;
        if (ragged != null) {
            System.arraycopy(ragged, 0, width, 0, ragged.length);
            Arrays.fill(step, 1);
            Arrays.fill(zero, blocks[0][ZERO]);
            for (int n = 0; n < ragged.length; n++) {
                first[n] = unit;
                unit += ragged[n];
            }
            return;
        }
        for (long[] block : blocks) {
            boolean byColumn = block[BY_COLUMN] != 0;
            for (int n = 0; n < block[0]; n++, row++) {
                first[row] = unit + n * (byColumn ? 1 : (int) block[WIDTH]);
                step[row] = byColumn ? (int) block[0] : 1;
                width[row] = (int) block[WIDTH];
                zero[row] = block[ZERO];
            }
            unit += (int) unitsOf(block);
        }
    }

    /** Return the number of units that share a byte: two of 4 bits, and four of 2 bits. */
    private static int shared(long[] block) {
        return block[BITS] < 8 ? 8 / (int) block[BITS] : 1;
    }

    /** Return the number of units of a block with its padding; by column, each part of a byte has whole columns. */
    private static long unitsOf(long[] block) {
        long rows = block[0];
        long width = block[WIDTH];
        int shared = shared(block);
        return shared * (block[BY_COLUMN] != 0 ? rows * ((width + shared - 1) / shared)
                : (rows * width + shared - 1) / shared);
    }

    /** Read the rows of a stored section. */
    static PatchRows of(PatchParts.Units stored, Map<?, ?> form, Map<String, int[]> lengths) {
        PatchRows rows = new PatchRows(form, stored.size, stored.count(), lengths);
        PatchParts.Units units = rows.units;
        if (rows.pointers) {
            for (int n = 0; n < units.count(); n++) {
                units.set(n, stored.get(n + 1) - stored.get(n));
            }
            return rows;
        }
        int at = 0;
        int unit = 0;
        for (long[] block : rows.blocks) {
            int count = (int) unitsOf(block);
            int shared = shared(block);
            if (shared > 1) {
                int bits = (int) block[BITS];
                int bytes = count / shared;
                for (int n = 0; n < count; n++) {
                    int part = n / bytes;
                    units.set(unit + n, stored.get(at + n - part * bytes) >> bits * part & (1 << bits) - 1);
                }
                at += bytes;
            } else {
                System.arraycopy(stored.bytes, at * stored.size, units.bytes, unit * units.size, count * units.size);
                at += count;
            }
            unit += count;
        }
        return rows;
    }

    /** Allocate the rows of a new section, filled with their zero values. */
    static PatchRows zeroRows(Map<?, ?> form, int size, long entries, Map<String, int[]> lengths) {
        PatchRows rows = new PatchRows(form, size, entries, lengths);
        int unit = 0;
        for (long[] block : rows.blocks) {
            for (int end = unit + (int) unitsOf(block); unit < end; unit++) {
                rows.units.set(unit, block[ZERO]);
            }
        }
        return rows;
    }

    /** Return the row lengths of a section of pointers. */
    int[] lengths() {
        int[] found = new int[units.count()];
        for (int n = 0; n < found.length; n++) {
            need(units.get(n) >= 0 && units.get(n) <= Integer.MAX_VALUE, "pointers that do not ascend");
            found[n] = (int) units.get(n);
        }
        return found;
    }

    /** Copy rows from the base, and add the differences of touched rows. */
    void fill(PatchRows before, int[] sources, boolean[] touched, PatchParts parts) {
        long total = 0;
        for (int row = 0; row < sources.length; row++) {
            total += touched[row] ? width[row] : 0;
        }
        PatchParts.Units differences = parts.values(total, units.size);
        int at = 0;
        for (int row = 0; row < sources.length; row++) {
            int source = sources[row];
            need(source < before.width.length, "it copies a row that is not there");
            int copied = source < 0 ? 0 : Math.min(width[row], before.width[source]);
            for (int n = 0; n < width[row]; n++) {
                long value = n < copied ? before.units.get(before.first[source] + n * before.step[source]) : zero[row];
                units.set(first[row] + n * step[row], value + (touched[row] ? differences.get(at++) : 0));
            }
        }
    }

    /** Pack the rows into the stored form of a section. */
    byte[] packed(int entries) {
        PatchParts.Units stored = new PatchParts.Units(new byte[entries * units.size], units.size);
        if (pointers) {
            for (int n = 0; n < units.count(); n++) {
                stored.set(n + 1, stored.get(n) + units.get(n));
            }
            return stored.bytes;
        }
        long filling = 0;
        for (int n = 0; n < shared(blocks[0]); n++) {
            filling |= blocks[0][ZERO] << n * blocks[0][BITS];
        }
        int at = 0;
        int unit = 0;
        for (long[] block : blocks) {
            int count = (int) unitsOf(block);
            int shared = shared(block);
            if (shared > 1) {
                int bits = (int) block[BITS];
                int bytes = count / shared;
                for (int n = 0; n < bytes; n++, at++) {
                    long joined = 0;
                    for (int part = 0; part < shared; part++) {
                        joined |= (units.get(unit + part * bytes + n) & (1 << bits) - 1) << bits * part;
                    }
                    stored.set(at, joined);
                }
            } else {
                System.arraycopy(units.bytes, unit * units.size, stored.bytes, at * units.size, count * units.size);
                at += count;
            }
            unit += count;
        }
        for (; at < entries; at++) {
            stored.set(at, filling);
        }
        return stored.bytes;
    }
}
