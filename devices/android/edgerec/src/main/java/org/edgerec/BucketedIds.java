package org.edgerec;

import static org.edgerec.IdParts.need;

import java.nio.ByteBuffer;

/** Whole numbers in buckets of 256^L neighbouring ones, stored as L bytes each, or as a bit each. */
final class BucketedIds implements Ids.Index<Long> {
    /** Minimum number of ids of a bucket that is a bitmap, if ids have one low byte. */
    private static final int BITMAP_IDS = 32;
    private static final int BITMAP_BYTES = 32;

    private final ByteBuffer section;
    private final int low;
    private final int[] begins;
    private final IdParts[] blocks;
    private final long[] firsts;

    /** Read the sizes of the buckets. Throws BundleException if the section is damaged. */
    BucketedIds(String name, ByteBuffer section, Manifest.RowsEntry entry) {
        this.section = section;
        begins = IdParts.begins(entry);
        blocks = new IdParts[begins.length];
        firsts = new long[begins.length];
        low = section.capacity() == 0 ? 0 : section.get(0);
        need(low >= 1 && low <= 7, name, "ids of " + low + " low bytes");
        int at = 1;
        for (int n = 0; n < blocks.length; n++) {
            need(section.capacity() - at >= 12, name, "it ends before its last block");
            firsts[n] = section.getLong(at);
            long count = section.getInt(at + 8) & 0xFFFFFFFFL;
            int counts = at + 12;
            need(2 * count <= section.capacity() - counts, name, "buckets that leave it");
            IdParts.Sizes sizes = new IdParts.Sizes() {
                @Override
                public int rows(int part) {
                    return section.getShort(counts + 2 * part) & 0xFFFF;
                }

                @Override
                public long bytes(int part) {
                    int ids = rows(part);
                    return isBitmap(ids) ? BITMAP_BYTES : ids * low;
                }
            };
            blocks[n] = new IdParts(name, count, counts + 2 * count, section.capacity(), entry.blocks[n], sizes);
            at = blocks[n].end;
            checkBits(name, blocks[n]);
        }
        need(at == section.capacity(), name, "it is longer than its ids");
    }

    private boolean isBitmap(int ids) {
        return low == 1 && ids >= BITMAP_IDS;
    }

    private void checkBits(String name, IdParts block) {
        if (low > 1) {
            return;
        }
        IdParts.Part part = block.part(0);
        do {
            int bits = 0;
            for (int at = part.start; isBitmap(part.rows) && at < part.end; at += 8) {
                bits += Long.bitCount(section.getLong(at));
            }
            boolean right = !isBitmap(part.rows) || bits == part.rows;
            need(right, name, "a bucket of " + bits + " bits where " + part.rows + " are promised");
        } while (block.advance(part));
    }

    @Override
    public int find(Long id) {
        for (int n = 0; n < blocks.length; n++) {
            // A distance from the first id takes 64 bits without a sign; ids before it become the largest.
            long distance = id - firsts[n];
            long bucket = distance >>> 8 * low;
            if (bucket < blocks[n].count) {
                IdParts.Part part = blocks[n].part((int) bucket);
                int rank = rank(part, distance & (1L << 8 * low) - 1);
                if (rank >= 0) {
                    return begins[n] + part.row + rank;
                }
            }
        }
        return -1;
    }

    @Override
    public Long at(int row) {
        int n = IdParts.blockOf(begins, row);
        IdParts.Part part = blocks[n].partOf(row - begins[n]);
        int rank = row - begins[n] - part.row;
        long inside = isBitmap(part.rows) ? bit(part, rank) : lowBytes(part.start + rank * low);
        return firsts[n] + ((long) part.number << 8 * low) + inside;
    }

    /** Return the place of an id in its bucket; -1 if it is not there. */
    private int rank(IdParts.Part part, long wanted) {
        if (isBitmap(part.rows)) {
            int word = (int) wanted >>> 6;
            long bits = section.getLong(part.start + 8 * word);
            long bit = 1L << wanted;
            int rank = Long.bitCount(bits & bit - 1);
            for (int before = 0; before < word; before++) {
                rank += Long.bitCount(section.getLong(part.start + 8 * before));
            }
            return (bits & bit) == 0 ? -1 : rank;
        }
        int first = 0;
        int end = part.rows;
        while (first < end) {
            int middle = (first + end) >>> 1;
            if (lowBytes(part.start + middle * low) < wanted) {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        return first < part.rows && lowBytes(part.start + first * low) == wanted ? first : -1;
    }

    /** Return the place of a bitmap's bit by its rank. */
    private int bit(IdParts.Part part, int rank) {
        int left = rank;
        int word = 0;
        long bits = section.getLong(part.start);
        while (Long.bitCount(bits) <= left) {
            left -= Long.bitCount(bits);
            bits = section.getLong(part.start + 8 * ++word);
        }
        for (; left > 0; left--) {
            bits &= bits - 1;
        }
        return 64 * word + Long.numberOfTrailingZeros(bits);
    }

    private long lowBytes(int at) {
        long number = 0;
        for (int n = low - 1; n >= 0; n--) {
            number = number << 8 | section.get(at + n) & 0xFF;
        }
        return number;
    }
}
