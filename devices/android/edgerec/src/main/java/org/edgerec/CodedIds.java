package org.edgerec;

import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * The ids of bundles of version 2: whole numbers in buckets, texts in groups (docs/reference/bundle.md, "Ids"). The
 * sizes of buckets and groups are added up once; a lookup decodes a single one of them from the mapped section.
 */
final class CodedIds {
    /** Minimum number of ids of a bucket that is a bitmap, if ids have one low byte. */
    private static final int BITMAP_IDS = 32;
    private static final int BITMAP_BYTES = 32;

    private CodedIds() {}

    /** The sizes of the buckets or groups of a block, as the section stores them. */
    private interface Sizes {
        int rows(int part);

        long bytes(int part);
    }

    /** One bucket or group: its number, its first row in the block, its rows, and where its bytes begin and end. */
    private static final class Part {
        int number;
        int row;
        int rows;
        int start;
        int end;
    }

    /** The buckets or groups of one block of rows. */
    private static final class Block {
        /** Only every 64th sum is stored: a hostile section of empty buckets would take twice its bytes of heap. */
        private static final int STEP = 64;

        final int count;
        /** Where the bytes of the last part end. */
        final int end;
        private final Sizes sizes;
        private final int[] rows;
        private final int[] starts;

        /**
         * Add up the sizes.
         *
         * @param start where the bytes of the first part begin.
         * @param limit bytes of the section.
         */
        Block(String section, long count, long start, int limit, int promised, Sizes sizes) {
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

        /** Return the part of a row of the block. */
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

        private void advance(Part part) {
            part.number++;
            part.row += part.rows;
            part.start = part.end;
            measure(part);
        }

        private void measure(Part part) {
            part.rows = sizes.rows(part.number);
            part.end = part.start + (int) sizes.bytes(part.number);
        }
    }

    /** Whole numbers in buckets of 256^L neighbouring ones, stored as L bytes each, or as a bit each. */
    static final class Numbers implements Ids.Index<Long> {
        private final ByteBuffer section;
        private final int low;
        private final int[] begins;
        private final Block[] blocks;
        private final long[] firsts;

        /** Read the sizes of the buckets. Throws BundleException if the section is damaged. */
        Numbers(String name, ByteBuffer section, Manifest.RowsEntry entry) {
            this.section = section;
            begins = begins(entry);
            blocks = new Block[begins.length];
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
                blocks[n] = new Block(name, count, counts + 2 * count, section.capacity(), entry.blocks[n], new Sizes() {
                    @Override
                    public int rows(int part) {
                        return section.getShort(counts + 2 * part) & 0xFFFF;
                    }

                    @Override
                    public long bytes(int part) {
                        int ids = rows(part);
                        return isBitmap(ids) ? BITMAP_BYTES : ids * low;
                    }
                });
                at = blocks[n].end;
                checkBits(name, blocks[n]);
            }
            need(at == section.capacity(), name, "it is longer than its ids");
        }

        private boolean isBitmap(int ids) {
            return low == 1 && ids >= BITMAP_IDS;
        }

        private void checkBits(String name, Block block) {
            if (low > 1) {
                return;
            }
            Part part = block.part(0);
            while (true) {
                if (isBitmap(part.rows)) {
                    int bits = 0;
                    for (int at = part.start; at < part.end; at += 8) {
                        bits += Long.bitCount(section.getLong(at));
                    }
                    need(bits == part.rows, name, "a bucket of " + bits + " bits where " + part.rows + " are promised");
                }
                if (part.number == block.count - 1) {
                    return;
                }
                block.advance(part);
            }
        }

        @Override
        public int find(Long id) {
            for (int n = 0; n < blocks.length; n++) {
                // A distance from the first id takes 64 bits without a sign; ids before it become the largest.
                long distance = id - firsts[n];
                long bucket = distance >>> 8 * low;
                if (bucket < blocks[n].count) {
                    Part part = blocks[n].part((int) bucket);
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
            int n = blockOf(begins, row);
            Part part = blocks[n].partOf(row - begins[n]);
            int rank = row - begins[n] - part.row;
            long inside = isBitmap(part.rows) ? bit(part, rank) : lowBytes(part.start + rank * low);
            return firsts[n] + ((long) part.number << 8 * low) + inside;
        }

        /** Return the place of an id in its bucket; -1 if it is not there. */
        private int rank(Part part, long wanted) {
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
        private int bit(Part part, int rank) {
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

    /** Texts in groups: each is the number of bytes that it shares with the text before, and its other bytes. */
    static final class Texts implements Ids.Index<byte[]> {
        private final String name;
        private final ByteBuffer section;
        private final int[] begins;
        private final Block[] blocks;

        /** Read the sizes of the groups. Throws BundleException if the section is damaged. */
        Texts(String name, ByteBuffer section, Manifest.RowsEntry entry) {
            this.name = name;
            this.section = section;
            begins = begins(entry);
            blocks = new Block[begins.length];
            int at = 0;
            for (int n = 0; n < blocks.length; n++) {
                need(section.capacity() - at >= 4, name, "it ends before its last block");
                long count = section.getInt(at) & 0xFFFFFFFFL;
                int rows = at + 4;
                need(5 * count <= section.capacity() - rows, name, "groups that leave it");
                int bytes = rows + (int) count;
                blocks[n] = new Block(name, count, rows + 5 * count, section.capacity(), entry.blocks[n], new Sizes() {
                    @Override
                    public int rows(int part) {
                        int ids = section.get(rows + part) & 0xFF;
                        need(ids > 0, name, "a group without ids");
                        return ids;
                    }

                    @Override
                    public long bytes(int part) {
                        return section.getInt(bytes + 4 * part) & 0xFFFFFFFFL;
                    }
                });
                at = blocks[n].end;
            }
            need(at == section.capacity(), name, "it is longer than its ids");
        }

        /** The texts of one group, in order; only their lengths are followed, and their bytes stay where they are. */
        private final class Cursor {
            private final int end;
            /** The text's bytes: `shared` of the text before, then those from `rest` to `at`. */
            int shared;
            int rest;
            int at;

            Cursor(Part group) {
                at = group.start;
                rest = group.start;
                end = group.end;
            }

            void advance() {
                int length = shared + at - rest;
                long common = number();
                long more = number();
                need(common <= length, name, "an id that shares more bytes than there are");
                need(more <= end - at, name, "an id that leaves its group");
                shared = (int) common;
                rest = at;
                at += (int) more;
            }

            /** Read a LEB128 number of at most five bytes. */
            private long number() {
                long number = 0;
                for (int shift = 0; shift < 35; shift += 7) {
                    need(at < end, name, "an id that leaves its group");
                    byte next = section.get(at++);
                    number |= (long) (next & 127) << shift;
                    if (next >= 0) {
                        return number;
                    }
                }
                need(false, name, "a number of more than five bytes");
                return number;
            }
        }

        @Override
        public int find(byte[] id) {
            for (int n = 0; n < blocks.length; n++) {
                int low = 0;
                int high = blocks[n].count;
                while (low < high) {
                    int middle = (low + high) >>> 1;
                    if (orderOfFirst(blocks[n].part(middle), id) <= 0) {
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                if (low > 0) {
                    Part group = blocks[n].part(low - 1);
                    int rank = rank(group, id);
                    if (rank >= 0) {
                        return begins[n] + group.row + rank;
                    }
                }
            }
            return -1;
        }

        /** Compare the first text of a group with the wanted one as unsigned bytes. */
        private int orderOfFirst(Part group, byte[] wanted) {
            Cursor text = new Cursor(group);
            text.advance();
            int length = text.at - text.rest;
            for (int n = 0; n < Math.min(length, wanted.length); n++) {
                byte one = section.get(text.rest + n);
                if (one != wanted[n]) {
                    return (one & 0xFF) - (wanted[n] & 0xFF);
                }
            }
            return length - wanted.length;
        }

        private int rank(Part group, byte[] wanted) {
            Cursor text = new Cursor(group);
            int equal = 0; // leading bytes of the text before that are those of the wanted one
            for (int rank = 0; rank < group.rows; rank++) {
                text.advance();
                int length = text.shared + text.at - text.rest;
                if (text.shared <= equal) {
                    equal = text.shared;
                    while (equal < Math.min(length, wanted.length)
                            && section.get(text.rest + equal - text.shared) == wanted[equal]) {
                        equal++;
                    }
                }
                if (equal == wanted.length && length == wanted.length) {
                    return rank;
                }
            }
            return -1;
        }

        @Override
        public byte[] at(int row) {
            int n = blockOf(begins, row);
            Part group = blocks[n].partOf(row - begins[n]);
            Cursor text = new Cursor(group);
            byte[] bytes = new byte[16];
            int length = 0;
            for (int rank = 0; rank <= row - begins[n] - group.row; rank++) {
                text.advance();
                length = text.shared + text.at - text.rest;
                if (length > bytes.length) {
                    bytes = Arrays.copyOf(bytes, (int) Math.min(2L * length, Integer.MAX_VALUE - 8));
                }
                for (int at = text.shared; at < length; at++) {
                    bytes[at] = section.get(text.rest + at - text.shared);
                }
            }
            return Arrays.copyOf(bytes, length);
        }
    }

    /** Return the first row of each block. */
    private static int[] begins(Manifest.RowsEntry entry) {
        int[] begins = new int[entry.blocks.length];
        for (int n = 1; n < begins.length; n++) {
            begins[n] = begins[n - 1] + entry.blocks[n - 1];
        }
        return begins;
    }

    private static int blockOf(int[] begins, int row) {
        int found = Arrays.binarySearch(begins, row);
        return found < 0 ? -found - 2 : found;
    }

    private static void need(boolean holds, String section, String reason) {
        if (!holds) {
            throw new BundleException("the section '" + section + "' is damaged (" + reason + "); get the bundle again");
        }
    }
}
