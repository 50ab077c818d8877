package org.edgerec;

import static org.edgerec.IdParts.need;

import java.nio.ByteBuffer;
import java.util.Arrays;

/** Texts in groups: each is the number of bytes that it shares with the text before, and its other bytes. */
final class GroupedTexts implements Ids.Index<byte[]> {
    private final String name;
    private final ByteBuffer section;
    private final int[] begins;
    private final IdParts[] blocks;

    /** Read the sizes of the groups. Throws BundleException if the section is damaged. */
    GroupedTexts(String name, ByteBuffer section, Manifest.RowsEntry entry) {
        this.name = name;
        this.section = section;
        begins = IdParts.begins(entry);
        blocks = new IdParts[begins.length];
        int at = 0;
        for (int n = 0; n < blocks.length; n++) {
            need(section.capacity() - at >= 4, name, "it ends before its last block");
            long count = section.getInt(at) & 0xFFFFFFFFL;
            int rows = at + 4;
            need(5 * count <= section.capacity() - rows, name, "groups that leave it");
            int bytes = rows + (int) count;
            IdParts.Sizes sizes = new IdParts.Sizes() {
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
            };
            blocks[n] = new IdParts(name, count, rows + 5 * count, section.capacity(), entry.blocks[n], sizes);
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

        Cursor(IdParts.Part group) {
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
                IdParts.Part group = blocks[n].part(low - 1);
                int rank = rank(group, id);
                if (rank >= 0) {
                    return begins[n] + group.row + rank;
                }
            }
        }
        return -1;
    }

    /** Compare the first text of a group with the wanted one as unsigned bytes. */
    private int orderOfFirst(IdParts.Part group, byte[] wanted) {
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

    private int rank(IdParts.Part group, byte[] wanted) {
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
        int n = IdParts.blockOf(begins, row);
        IdParts.Part group = blocks[n].partOf(row - begins[n]);
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
