package org.edgerec;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Collection;

/** Conversion between raw ids and bundle rows, directly from the tables: a binary search per block, no dictionary. */
final class Ids {
    private final Manifest.RowsEntry entry;
    private final String what;
    private final Tables.Numbers numbers;
    private final Tables.Texts texts;

    /** @param what "item" or "user". */
    Ids(Tables tables, String what, Manifest.RowsEntry entry) {
        this.entry = entry;
        this.what = what;
        texts = entry.ids.equals("str") ? tables.texts(what + "_id") : null;
        numbers = entry.ids.equals("int") ? tables.numbers(what + "_ids") : row -> row;
    }

    /** Return the rows of ids. Throws RequestException for an unknown one. */
    long[] rows(Collection<?> ids) {
        if (ids == null) {
            throw new RequestException("expected a collection of " + what + " ids, got null; give an empty one");
        }
        long[] rows = new long[ids.size()];
        int n = 0;
        for (Object id : ids) {
            rows[n++] = row(id);
        }
        return rows;
    }

    /** Return the row of an id. Throws RequestException if it is unknown. */
    int row(Object id) {
        int row = find(id);
        if (row < 0) {
            String said = id instanceof String ? "'" + id + "'" : String.valueOf(id);
            throw new RequestException(what + " " + said + " is not in the bundle");
        }
        return row;
    }

    /** Return the row of an id; -1 if it is unknown. */
    int find(Object id) {
        if (texts != null) {
            return id instanceof String ? find((String) id) : -1;
        }
        if (!isWhole(id)) {
            return -1;
        }
        long wanted = ((Number) id).longValue();
        return find(row -> Long.compare(numbers.at(row), wanted));
    }

    /** Return true if an id is a whole number. */
    static boolean isWhole(Object id) {
        return id instanceof Long || id instanceof Integer || id instanceof Short || id instanceof Byte;
    }

    private int find(String id) {
        byte[] wanted;
        try {
            ByteBuffer encoded = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(id));
            wanted = new byte[encoded.remaining()];
            encoded.get(wanted);
        } catch (CharacterCodingException half) { // text with a lone surrogate is no id
            return -1;
        }
        return find(row -> order(texts.at(row), wanted));
    }

    /** A comparison of a row's id with the wanted one: below 0 if the row's id comes first. */
    private interface Comparison {
        int of(int row);
    }

    private int find(Comparison comparison) {
        int end = 0;
        for (int count : entry.blocks) {
            int low = end;
            end += count;
            int high = end;
            while (low < high) {
                int middle = (low + high) >>> 1;
                if (comparison.of(middle) < 0) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            if (low < end && comparison.of(low) == 0) {
                return low;
            }
        }
        return -1;
    }

    /** Return a row's id: a Long or a String. */
    Object id(int row) {
        return texts == null ? (Object) numbers.at(row) : decoded(texts.at(row));
    }

    /** Decode UTF-8; invalid text is an error, never replaced by question marks. */
    static String decoded(byte[] text) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(text)).toString();
        } catch (CharacterCodingException error) {
            throw new BundleException("a text of the bundle is no UTF-8; export it again", error);
        }
    }

    /** Compare byte strings as unsigned bytes; a prefix comes before longer text. */
    private static int order(byte[] one, byte[] other) {
        for (int n = 0; n < Math.min(one.length, other.length); n++) {
            if (one[n] != other[n]) {
                return (one[n] & 0xFF) - (other[n] & 0xFF);
            }
        }
        return one.length - other.length;
    }
}
