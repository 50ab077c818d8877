package org.edgerec;

import java.util.Arrays;

/**
 * The parts of one block of ids of version 2, buckets or groups, which lie one after the other
 * (docs/reference/bundle.md, "Ids"). Their sizes are added up once; a lookup decodes a single part of the mapped section.
 */
final class IdParts {
    /** Only every 64th sum is stored: a hostile section of empty buckets would take twice its bytes of heap. */
    private static final int STEP = 64;

    /** The sizes of the buckets or groups of a block, as the section stores them. */
    interface Sizes {
        int rows(int part);

        long bytes(int part);
    }

    /** One bucket or group: its number, its first row in the block, its rows, and where its bytes begin and end. */
    static final class Part {
        int number;
        int row;
        int rows;
        int start;
        int end;
    }

    final int count;
    /** Where the bytes of the last part end. */
    final int end;
    private final Sizes sizes;
    private final int[] rows;
    private final int[] starts;

    /**
     * Add up the sizes.
     *
     * @param section its name, for messages.
     * @param start where the bytes of the first part begin.
     * @param limit bytes of the section.
     * @param promised rows of the block.
     * @throws BundleException the parts have other rows, or leave the section.
     */
    IdParts(String section, long count, long start, int limit, int promised, Sizes sizes) {
        this.sizes = sizes;
        this.count = (int) count;
        rows = new int[this.count / STEP + 1];
        starts = new int[rows.length];
        long sum = 0;
        long at = start;
        for (int part = 0; part < this.count; part++) {
            if (part % STEP == 0) {
                rows[part / STEP] = (int) sum;
                starts[part / STEP] = (int) at;
            }
            sum += sizes.rows(part);
            at += sizes.bytes(part);
            need(sum <= promised && at <= limit, section, "ids that leave their block");
        }
        if (this.count % STEP == 0) {
            rows[this.count / STEP] = (int) sum;
            starts[this.count / STEP] = (int) at;
        }
        need(sum == promised, section, sum + " ids where " + promised + " are promised");
        end = (int) at;
    }

    /** Return a part by its number. */
    Part part(int number) {
        Part part = first(number / STEP);
        while (part.number < number) {
            advance(part);
        }
        return part;
    }

    /** Return the part with a row of the block. */
    Part partOf(int row) {
        int low = 0;
        int high = rows.length;
        while (low < high) {
            int middle = (low + high) >>> 1;
            if (rows[middle] <= row) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Part part = first(low - 1);
        while (part.row + part.rows <= row) {
            advance(part);
        }
        return part;
    }

    private Part first(int step) {
        Part part = new Part();
        part.number = step * STEP;
        part.row = rows[step];
        part.start = starts[step];
        measure(part);
        return part;
    }

    /** Turn a part into the next one. Returns false after the last. */
    boolean advance(Part part) {
        if (part.number == count - 1) {
            return false;
        }
        part.number++;
        part.row += part.rows;
        part.start = part.end;
        measure(part);
        return true;
    }

    private void measure(Part part) {
        part.rows = sizes.rows(part.number);
        part.end = part.start + (int) sizes.bytes(part.number);
    }

    /** Return the first row of each block. */
    static int[] begins(Manifest.RowsEntry entry) {
        int[] begins = new int[entry.blocks.length];
        for (int n = 1; n < begins.length; n++) {
            begins[n] = begins[n - 1] + entry.blocks[n - 1];
        }
        return begins;
    }

    /** Return the block of a row. */
    static int blockOf(int[] begins, int row) {
        int found = Arrays.binarySearch(begins, row);
        return found < 0 ? -found - 2 : found;
    }

    static void need(boolean holds, String section, String reason) {
        if (!holds) {
            throw new BundleException(
                    "the section '" + section + "' is damaged (" + reason + "); get the bundle again");
        }
    }
}
