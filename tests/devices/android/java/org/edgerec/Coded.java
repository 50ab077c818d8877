package org.edgerec;

import static org.edgerec.Demands.demand;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;

/**
 * Ids of version 2, written by an encoder of its own, from the specification: every id is found, and hostile sections
 * are refused.
 *
 * <p>usage: java org.edgerec.Coded SEED
 */
public final class Coded {
    private static final String NAME = "item_ids";
    private final Random random;

    private Coded(long seed) {
        random = new Random(seed);
    }

    public static void main(String[] arguments) throws Exception {
        Coded coded = new Coded(Long.parseLong(arguments[0]));
        coded.everyNumberIsFound();
        coded.everyTextIsFound();
        coded.hashes();
        coded.hostileNumbersAreRefused();
        coded.hostileTextsAreRefused();
        coded.damagedSectionsThrowNothingElse();
        System.out.println("all ids are right");
        System.exit(0);
    }

    // The encoder.

    /** Numbers in little-endian order. */
    static final class Bytes extends ByteArrayOutputStream {
        Bytes number(long value, int bytes) {
            for (int n = 0; n < bytes; n++) {
                write((int) (value >> 8 * n));
            }
            return this;
        }

        Bytes leb128(int value) {
            int left = value;
            for (; left > 127; left >>>= 7) {
                write(left & 127 | 128);
            }
            write(left);
            return this;
        }
    }

    /** Blocks of ascending numbers, with `low` bytes of each in its bucket. */
    static byte[] buckets(long[][] blocks, int low) {
        Bytes section = new Bytes().number(low, 1);
        for (long[] block : blocks) {
            List<List<Long>> buckets = new ArrayList<>();
            for (long id : block) {
                long distance = id - block[0];
                while (buckets.size() <= distance >>> 8 * low) {
                    buckets.add(new ArrayList<>());
                }
                buckets.get(buckets.size() - 1).add(distance - ((long) buckets.size() - 1 << 8 * low));
            }
            section.number(block[0], 8).number(buckets.size(), 4);
            for (List<Long> bucket : buckets) {
                section.number(bucket.size(), 2);
            }
            for (List<Long> bucket : buckets) {
                byte[] bits = new byte[32];
                for (long inside : bucket) {
                    bits[(int) inside / 8 & 31] |= 1 << inside % 8;
                    section.number(inside, low == 1 && bucket.size() >= 32 ? 0 : low);
                }
                section.write(bits, 0, low == 1 && bucket.size() >= 32 ? 32 : 0);
            }
        }
        return section.toByteArray();
    }

    /** Blocks of ascending texts, in groups of 1 to `most` each. */
    static byte[] groups(byte[][][] blocks, int most, Random random) {
        Bytes section = new Bytes();
        for (byte[][] block : blocks) {
            Bytes rows = new Bytes();
            Bytes sizes = new Bytes();
            Bytes contents = new Bytes();
            for (int at = 0; at < block.length; rows.size()) {
                int end = Math.min(block.length, at + 1 + random.nextInt(most));
                rows.number(end - at, 1);
                Bytes group = new Bytes();
                for (byte[] before = {}; at < end; before = block[at++]) {
                    int shared = 0;
                    while (shared < Math.min(before.length, block[at].length) && before[shared] == block[at][shared]) {
                        shared++;
                    }
                    group.leb128(shared).leb128(block[at].length - shared);
                    group.write(block[at], shared, block[at].length - shared);
                }
                sizes.number(group.size(), 4);
                contents.writeBytes(group.toByteArray());
            }
            section.number(rows.size(), 4).writeBytes(rows.toByteArray());
            section.writeBytes(sizes.toByteArray());
            section.writeBytes(contents.toByteArray());
        }
        return section.toByteArray();
    }

    // What a reader makes of it.

    private static Manifest.RowsEntry entry(int... blocks) {
        return new Manifest.RowsEntry(Arrays.stream(blocks).sum(), blocks, "int");
    }

    private static ByteBuffer view(byte[] section) {
        return ByteBuffer.wrap(section).asReadOnlyBuffer().order(ByteOrder.LITTLE_ENDIAN);
    }

    private static BucketedIds numbers(byte[] section, int... blocks) {
        return new BucketedIds(NAME, view(section), entry(blocks));
    }

    private static GroupedTexts texts(byte[] section, int... blocks) {
        return new GroupedTexts(NAME, view(section), entry(blocks));
    }

    private void everyNumberIsFound() {
        for (int low = 1; low <= 7; low++) {
            for (int round = 0; round < 30; round++) {
                // At most a few thousand buckets from the first id to the last.
                int bits = Math.min(64, 8 * low + random.nextInt(12));
                TreeSet<Long> seen = new TreeSet<>();
                long[][] blocks = new long[1 + random.nextInt(3)][];
                for (int n = 0; n < blocks.length; n++) {
                    long origin = n == 0 ? Long.MIN_VALUE : random.nextLong();
                    TreeSet<Long> ids = new TreeSet<>(Arrays.asList(origin));
                    for (int count = random.nextInt(400); count > 0; count--) {
                        long id = origin + (random.nextLong() >>> 64 - bits);
                        if (id >= origin && !seen.contains(id)) {
                            ids.add(id);
                        }
                    }
                    seen.addAll(ids);
                    blocks[n] = ids.stream().mapToLong(id -> id).toArray();
                }
                compare(blocks, low, seen);
            }
        }
        long[] ends = {Long.MIN_VALUE, -1, 0, 1, Long.MAX_VALUE};
        compare(new long[][] {ends}, 7, new TreeSet<>(Arrays.asList(Long.MIN_VALUE, -1L, 0L, 1L, Long.MAX_VALUE)));
    }

    private static void compare(long[][] blocks, int low, TreeSet<Long> all) {
        BucketedIds found = numbers(buckets(blocks, low), Arrays.stream(blocks).mapToInt(b -> b.length).toArray());
        int row = 0;
        for (long[] block : blocks) {
            for (long id : block) {
                demand(found.at(row) == id, low + ": row " + row + " is " + found.at(row) + ", not " + id);
                demand(found.find(id) == row, low + ": " + id + " is found at " + found.find(id) + ", not " + row);
                for (long other : new long[] {id + 1, id - 1, id ^ 1L << 63, id + 256, id ^ 1L << 33}) {
                    demand(all.contains(other) || found.find(other) == -1, other);
                }
                row++;
            }
        }
    }

    private void everyTextIsFound() {
        for (int round = 0; round < 120; round++) {
            TreeSet<String> seen = new TreeSet<>();
            byte[][][] blocks = new byte[1 + random.nextInt(3)][][];
            for (int n = 0; n < blocks.length; n++) {
                List<byte[]> ids = new ArrayList<>();
                for (int count = 1 + random.nextInt(700); count > 0; count--) {
                    String id = text();
                    if (seen.add(id)) {
                        ids.add(id.getBytes(StandardCharsets.UTF_8));
                    }
                }
                String last = "\uffee" + n; // so that no block is empty
                seen.add(last);
                ids.add(last.getBytes(StandardCharsets.UTF_8));
                ids.sort(Arrays::compareUnsigned);
                blocks[n] = ids.toArray(new byte[0][]);
            }
            byte[] section = groups(blocks, random.nextBoolean() ? 255 : 16, random);
            GroupedTexts found = texts(section, Arrays.stream(blocks).mapToInt(block -> block.length).toArray());
            int row = 0;
            for (byte[][] block : blocks) {
                for (byte[] id : block) {
                    String said = new String(id, StandardCharsets.UTF_8);
                    demand(Arrays.equals(found.at(row), id), row);
                    demand(found.find(id) == row, said);
                    for (String other : new String[] {said + "a", said + "\u0000", text(), said.replace('a', 'z')}) {
                        int at = found.find(other.getBytes(StandardCharsets.UTF_8));
                        demand(at >= 0 == seen.contains(other), other);
                    }
                    row++;
                }
            }
        }
    }

    /** Text that shares its beginning with others, of up to 400 bytes, also empty or beyond ASCII. */
    private String text() {
        String[] syllables = {"a", "b", "ab", "\u00e9", "\ud83d\ude00", "\uff5e", "0", "a".repeat(130)};
        StringBuilder text = new StringBuilder();
        for (int n = random.nextInt(6); n > 0; n--) {
            text.append(syllables[random.nextInt(syllables.length)]);
        }
        return text.toString();
    }

    /** The published values of FNV-1a, and one beyond ASCII. */
    private void hashes() {
        demand(Recommender.idHash("").equals("cbf29ce484222325"), Recommender.idHash(""));
        demand(Recommender.idHash("a").equals("af63dc4c8601ec8c"), Recommender.idHash("a"));
        demand(Recommender.idHash("foobar").equals("85944171f73967e8"), Recommender.idHash("foobar"));
        demand(Recommender.idHash("\u00e9\ud83d\ude00").equals("52da6ebdce68376c"), "beyond ASCII");
        for (String none : new String[] {null, "\ud800"}) {
            try {
                demand(false, Recommender.idHash(none));
            } catch (RequestException refused) {
                demand(refused.getMessage().contains("is no id"), refused);
            }
        }
    }

    private interface Reading {
        void read();
    }

    private static void refuses(String reason, Reading act) {
        try {
            act.read();
        } catch (BundleException error) {
            demand(error.getMessage().startsWith("the section 'item_ids' is damaged ("), error);
            demand(error.getMessage().contains(reason), error);
            return;
        }
        throw new AssertionError("no error where this is expected: " + reason);
    }

    private static byte[] changed(byte[] section, int at, int... values) {
        byte[] other = section.clone();
        for (int n = 0; n < values.length; n++) {
            other[at + n] = (byte) values[n];
        }
        return other;
    }

    private void hostileNumbersAreRefused() {
        long[] bitmap = new long[40]; // 0, 2, 4, ...
        Arrays.setAll(bitmap, n -> 2L * n);
        long[] sparse = {7, 300, 301};
        byte[] right = buckets(new long[][] {bitmap, sparse}, 1);
        demand(right.length == 1 + 12 + 2 + 32 + 12 + 2 * 2 + 3, right.length);
        demand(numbers(right, 40, 3).at(42) == 301, "the last id");
        for (int length = 0; length < right.length; length++) {
            byte[] cut = Arrays.copyOf(right, length);
            refuses("", () -> numbers(cut, 40, 3));
        }
        refuses("longer than its ids", () -> numbers(Arrays.copyOf(right, right.length + 1), 40, 3));
        for (int low : new int[] {0, 8, 128, 255}) {
            refuses("low bytes", () -> numbers(changed(right, 0, low), 40, 3));
        }
        for (int high : new int[] {1, 0x7f, 0x80, 0xff}) { // of the number of buckets
            refuses("buckets that leave it", () -> numbers(changed(right, 9, 255, 255, 255, high), 40, 3));
        }
        refuses("0 ids where 40 are promised", () -> numbers(changed(right, 9, 0, 0, 0, 0), 40, 3));
        refuses("ids that leave their block", () -> numbers(changed(right, 13, 41, 0), 40, 3));
        refuses("ids that leave their block", () -> numbers(changed(right, 13, 255, 255), 40, 3));
        refuses("39 ids where 40 are promised", () -> numbers(changed(right, 13, 39, 0), 40, 3));
        refuses("ids that leave their block", () -> numbers(right, 39, 4));
        refuses("40 ids where 43 are promised", () -> numbers(right, 43));
        refuses("longer than its ids", () -> numbers(right, 40));
        refuses("ends before its last block", () -> numbers(right, 40, 3, 1));
        refuses("41 bits where 40 are promised", () -> numbers(changed(right, 15, 0x57), 40, 3));
        refuses("8 bits where 40", () -> numbers(changed(right, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3), 40, 3));
        // More ids than Java counts, in a section that would have to hold them.
        byte[] many = new Bytes().number(7, 1).number(0, 8).number(40_000, 4).toByteArray();
        byte[] full = Arrays.copyOf(many, many.length + 80_000);
        Arrays.fill(full, many.length, full.length, (byte) 255);
        refuses("ids that leave their block", () -> numbers(full, Integer.MAX_VALUE));
    }

    private void hostileTextsAreRefused() {
        byte[] right = new Bytes().number(2, 4).number(2, 1).number(1, 1).number(7, 4).number(4, 4).toByteArray();
        int first = right.length;
        Bytes bytes = new Bytes();
        bytes.writeBytes(right);
        bytes.writeBytes(new byte[] {0, 2, 'a', 'b', 1, 1, 'c', 0, 2, 'b', 'a'});
        byte[] section = bytes.toByteArray();
        demand(new String(texts(section, 3).at(1), StandardCharsets.UTF_8).equals("ac"), "the second id");
        for (int length = 0; length < section.length; length++) {
            byte[] cut = Arrays.copyOf(section, length);
            refuses("", () -> texts(cut, 3));
        }
        refuses("longer than its ids", () -> texts(Arrays.copyOf(section, section.length + 1), 3));
        for (int high : new int[] {1, 0x7f, 0x80, 0xff}) { // of the number of groups
            refuses("groups that leave it", () -> texts(changed(section, 0, 255, 255, 255, high), 3));
        }
        refuses("0 ids where 3 are promised", () -> texts(changed(section, 0, 0, 0, 0, 0), 3));
        refuses("a group without ids", () -> texts(changed(section, 4, 3, 0), 3));
        refuses("ids that leave their block", () -> texts(changed(section, 4, 255), 3));
        refuses("2 ids where 3 are promised", () -> texts(changed(section, 4, 1), 3));
        refuses("ids that leave their block", () -> texts(changed(section, 6, 255, 255, 255, 255), 3));
        refuses("ids that leave their block", () -> texts(changed(section, 6, 0, 0, 0, 128), 3));
        refuses("longer than its ids", () -> texts(changed(section, 10, 3), 3));
        // What only a look into the group shows.
        String shared = "shares more bytes than there are";
        String leaves = "an id that leaves its group";
        byte[] id = {'a', 'c'};
        refuses(shared, () -> texts(changed(section, first, 1), 3).at(0));
        refuses(shared, () -> texts(changed(section, first, 1), 3).find(id));
        refuses(shared, () -> texts(changed(section, first + 4, 3), 3).at(1));
        refuses(leaves, () -> texts(changed(section, first + 5, 2), 3).at(1));
        refuses(leaves, () -> texts(changed(section, first + 5, 2), 3).find(id));
        refuses(leaves, () -> texts(changed(section, first + 1, 255, 255, 255, 255, 15), 3).at(0));
        refuses("more than five bytes", () -> texts(changed(section, first, 128, 128, 128, 128, 128), 3).at(0));
        refuses(leaves, () -> texts(changed(section, first + 7, 0, 130, 128, 128), 3).find(new byte[] {'b'}));
    }

    private void damagedSectionsThrowNothingElse() {
        long[] ids = random.longs(300, 0, 2000).sorted().distinct().toArray();
        byte[] whole = buckets(new long[][] {{-5, 9}, ids}, 1);
        byte[] wide = buckets(new long[][] {{-5, 9}, ids}, 2);
        TreeSet<String> words = new TreeSet<>();
        for (int n = 0; n < 300; n++) {
            words.add(text());
        }
        byte[][] block = words.stream().map(word -> word.getBytes(StandardCharsets.UTF_8))
                .sorted(Arrays::compareUnsigned).toArray(byte[][]::new);
        byte[] text = groups(new byte[][][] {block}, 30, random);
        int refused = 0;
        for (int round = 0; round < 6000; round++) {
            byte[] section = (round % 3 == 0 ? whole : round % 3 == 1 ? wide : text).clone();
            for (int n = random.nextInt(3); n >= 0; n--) {
                section[random.nextInt(random.nextBoolean() ? section.length : 64)] = (byte) random.nextInt(256);
            }
            try {
                if (round % 3 < 2) {
                    BucketedIds found = numbers(section, 2, ids.length);
                    for (int row = 0; row < 2 + ids.length; row++) {
                        found.find(found.at(row));
                    }
                } else {
                    GroupedTexts found = texts(section, block.length);
                    for (int row = 0; row < block.length; row++) {
                        found.find(block[row]);
                        found.at(row);
                    }
                }
            } catch (BundleException named) {
                refused++;
            }
        }
        demand(refused > 1000, refused + " refused");
    }
}
