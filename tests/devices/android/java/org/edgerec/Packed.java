package org.edgerec;

import static org.edgerec.Demands.demand;
import static org.edgerec.Demands.refuses;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.zip.DeflaterOutputStream;

/**
 * Bundles in one file, written by an encoder of its own, are unpacked byte for byte or not at all; bundles with smaller
 * rollback indices are refused.
 *
 * <p>usage: java org.edgerec.Packed VECTORS SCRATCH SEED
 */
public final class Packed {
    private final File bundles;
    private final File scratch;
    private final Random random;

    private Packed(String[] arguments) {
        bundles = new File(arguments[0], "bundles");
        scratch = new File(arguments[1]);
        random = new Random(Long.parseLong(arguments[2]));
    }

    public static void main(String[] arguments) throws Exception {
        Packed packed = new Packed(arguments);
        packed.filesAreUnpackedByteForByte();
        packed.hostileFilesAreRefused();
        packed.damagedFilesThrowNothingElse();
        packed.smallerRollbackIndicesAreRefused();
        System.out.println("all is unpacked or refused");
        System.exit(0);
    }

    private static Map<String, byte[]> contents(File folder) throws IOException {
        Map<String, byte[]> found = new TreeMap<>();
        for (File file : folder.listFiles()) {
            found.put(file.getName(), Files.readAllBytes(file.toPath()));
        }
        return found;
    }

    private static void demandEqual(File one, File other) throws IOException {
        Map<String, byte[]> right = contents(one);
        Map<String, byte[]> found = contents(other);
        demand(right.keySet().equals(found.keySet()), found.keySet());
        for (String name : right.keySet()) {
            demand(Arrays.equals(right.get(name), found.get(name)), name);
        }
    }

    // The encoder.

    private static byte[] deflated(byte[] content) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (DeflaterOutputStream deflater = new DeflaterOutputStream(bytes)) {
            deflater.write(content);
        }
        return bytes.toByteArray();
    }

    private static byte[] head(File folder) throws IOException {
        Map<String, byte[]> files = contents(folder);
        ByteArrayOutputStream head = new ByteArrayOutputStream();
        head.writeBytes(files.remove(Manifest.NAME));
        for (Map.Entry<String, byte[]> file : files.entrySet()) { // by their names
            head.writeBytes(file.getKey().startsWith("tables-") ? new byte[0] : file.getValue());
        }
        return head.toByteArray();
    }

    private static byte[] tables(File folder) throws IOException {
        Map<String, byte[]> files = contents(folder);
        return files.get(new Manifest(files.get(Manifest.NAME)).tables.file);
    }

    private static byte[] packed(int major, int minor, byte[] stored, long head, long manifest, byte[] tables) {
        Coded.Bytes bytes = new Coded.Bytes();
        bytes.writeBytes("edgerecB".getBytes(StandardCharsets.US_ASCII));
        bytes.number(major, 2).number(minor, 2).number(stored.length, 4).number(head, 4).number(manifest, 4);
        bytes.writeBytes(stored);
        while (bytes.size() % 64 != 0) {
            bytes.write(0);
        }
        bytes.writeBytes(tables);
        return bytes.toByteArray();
    }

    private static byte[] packed(File folder, boolean deflate) throws IOException {
        byte[] head = head(folder);
        int manifest = contents(folder).get(Manifest.NAME).length;
        return packed(2, 0, deflate ? deflated(head) : head, head.length, manifest, tables(folder));
    }

    private File written(byte[] content) throws IOException {
        File file = new File(scratch, "bundle.edgerec");
        Files.write(file.toPath(), content);
        return file;
    }

    private void filesAreUnpackedByteForByte() throws Exception {
        File first = new File(bundles, "titles");
        File second = new File(bundles, "csr-int8-ials");
        File place = new File(scratch, "places/app.bundle");
        File file = written(packed(first, true));
        Bundles.unpack(file, place);
        demandEqual(first, place);
        Recommender.load(place, new Options().verify(false)).close();
        refuses(BundleException.class, "is a file; unpack a bundle in one file first", () -> Recommender.load(file));
        refuses(BundleException.class, "is a file; unpack", () -> Recommender.metadata(file));
        // Over a bundle that is there, as it is, and by another one of a newer minor version.
        Bundles.unpack(file, place);
        demandEqual(first, place);
        byte[] raw = packed(second, false);
        raw[10] = 9;
        Bundles.unpack(new ByteArrayInputStream(raw), place);
        demandEqual(second, place);
        demand(Arrays.equals(place.getParentFile().list(), new String[] {"app.bundle"}), "nothing else is left");
        // What a killed process left is removed.
        File left = new File(place.getParentFile(), ".other.bundle.part");
        demand(left.mkdir() && new File(left, "tables").createNewFile(), left);
        Bundles.unpack(file, new File(place.getParentFile(), "other.bundle"));
        demandEqual(first, new File(place.getParentFile(), "other.bundle"));
        refuses(MissingException.class, "free space there, or check its source",
                () -> Bundles.unpack(new File(scratch, "none"), place));
        refuses(MissingException.class, "cannot be unpacked into", () -> Bundles.unpack(scratch, place));
        refuses(MissingException.class, "cannot be created", () -> Bundles.unpack(file, new File(file, "place")));
        demandEqual(second, place);
    }

    private void hostileFilesAreRefused() throws Exception {
        File titles = new File(bundles, "titles");
        byte[] head = head(titles);
        byte[] tables = tables(titles);
        int manifest = contents(titles).get(Manifest.NAME).length;
        byte[] stored = deflated(head);
        byte[] right = packed(2, 0, stored, head.length, manifest, tables);
        byte[] bomb = deflated(new byte[50 << 20]);
        byte[] small = deflated(new byte[4 << 20]);
        demand(bomb.length < 1 << 16 && small.length < head.length, small.length);
        String length = "a head of another length than promised";
        byte[] altered = head.clone();
        altered[head.length - 1] ^= 1; // of the last graph
        byte[] rotten = tables.clone();
        rotten[0] ^= 1;
        byte[] padded = right.clone();
        padded[right.length - tables.length - 1] = 1;
        demand(right[right.length - tables.length - 1] == 0 && (24 + stored.length) % 64 != 0, "there is padding");
        Object[][] hostile = {
            {new byte[0], "it is shorter than its parts"},
            {Arrays.copyOf(right, 23), "it is shorter than its parts"},
            {Arrays.copyOf(right, 24 + stored.length - 1), "it is shorter than its parts"},
            {"edgerecP, of which this has 24 bytes".getBytes(StandardCharsets.US_ASCII), "is no bundle in one file"},
            {packed(3, 1, stored, head.length, manifest, tables), "has version 3.1, this reader knows versions"},
            {packed(2, 0, new byte[(8 << 20) + 1], head.length, manifest, tables), "a head of more than 8388608 bytes"},
            {packed(2, 0, stored, (8 << 20) + 1, manifest, tables), "a head of more than 8388608 bytes"},
            {packed(2, 0, new byte[head.length + 1], head.length, manifest, tables), "longer as it is stored"},
            {packed(2, 0, stored, 0xFFFFFFFFL, manifest, tables), "a head of more than 8388608 bytes"},
            {packed(2, 0, stored, head.length, head.length + 1, tables), "a manifest of " + (head.length + 1)},
            {packed(2, 0, stored, head.length, 0xFFFFFFFFL, tables), "a manifest of 4294967295 bytes"},
            {packed(2, 0, stored, 8 << 20, (4 << 20) + 1, tables), "a manifest of 4194305 bytes"},
            {packed(2, 0, stored, head.length, 0, tables), "describes no bundle of EdgeRec"},
            {packed(2, 0, stored, head.length, manifest - 2, tables), "describes no bundle of EdgeRec"},
            {packed(2, 0, small, head.length, manifest, tables), length},
            {packed(2, 0, bomb, 8 << 20, manifest, tables), length},
            {packed(2, 0, stored, head.length - 1, manifest, tables), length},
            {packed(2, 0, stored, head.length + 1, manifest, tables), length},
            {packed(2, 0, Arrays.copyOf(stored, stored.length - 9), head.length, manifest, tables), length},
            {packed(2, 0, Arrays.copyOf(stored, stored.length + 9), head.length, manifest, tables), length},
            {packed(2, 0, new byte[99], head.length, manifest, tables), "is damaged ("},
            {packed(2, 0, new byte[0], head.length, manifest, tables), length},
            {packed(2, 0, Arrays.copyOf(head, head.length - 1), head.length - 1, manifest, tables), "other files than"},
            {packed(2, 0, Arrays.copyOf(head, head.length + 1), head.length + 1, manifest, tables), "other files than"},
            {packed(2, 0, altered, head.length, manifest, tables), "is not the file that manifest.json describes"},
            {packed(2, 0, stored, head.length, manifest, rotten), "is not the file that manifest.json describes"},
            {padded, "no zeros before its tables"},
            {Arrays.copyOf(right, right.length - 1), "bytes, and its parts have " + right.length},
            {Arrays.copyOf(right, right.length + 1), "bytes, and its parts have " + right.length},
            {Arrays.copyOf(right, right.length + 64), "bytes, and its parts have " + right.length},
        };
        File there = new File(scratch, "there/app.bundle");
        Bundles.unpack(new ByteArrayInputStream(packed(new File(bundles, "no-ids"), true)), there);
        for (Object[] one : hostile) {
            File file = written((byte[]) one[0]);
            refuses(BundleException.class, (String) one[1], () -> Bundles.unpack(file, there));
            demandEqual(new File(bundles, "no-ids"), there);
            demand(there.getParentFile().list().length == 1, Arrays.toString(there.getParentFile().list()));
        }
        for (int more : new int[] {-1, 1}) { // of a stream, whose length is not known before
            byte[] other = Arrays.copyOf(right, right.length + more);
            refuses(BundleException.class, "is not the file that manifest.json describes",
                    () -> Bundles.unpack(new ByteArrayInputStream(other), there));
            demandEqual(new File(bundles, "no-ids"), there);
        }
        // Sizes that the manifest has not, and files that it names beside the bundle.
        String document = new String(head, 0, manifest, StandardCharsets.UTF_8);
        String[][] changes = {
            {"\"bytes\":", "\"bytes\":9007199254740991", "is damaged"},
            {"\"bytes\":", "\"bytes\":9", "is damaged"},
            {"\"file\":\"README", "\"file\":\"../README", "is damaged at '../README"},
            {"\"file\":\"README-b8ad06f7b720.md", "\"file\":\"manifest.json", "is damaged at 'manifest.json'"},
        };
        for (String[] change : changes) {
            byte[] other = document.replaceFirst(change[0], change[1]).getBytes(StandardCharsets.UTF_8);
            Coded.Bytes all = new Coded.Bytes();
            all.writeBytes(other);
            all.write(head, manifest, head.length - manifest);
            File file = written(packed(2, 0, all.toByteArray(), all.size(), other.length, tables));
            refuses(BundleException.class, change[2], () -> Bundles.unpack(file, there));
        }
        demandEqual(new File(bundles, "no-ids"), there);
    }

    private void damagedFilesThrowNothingElse() throws Exception {
        File titles = new File(bundles, "titles");
        File place = new File(scratch, "damaged/app.bundle");
        int refused = 0;
        for (int round = 0; round < 400; round++) {
            byte[] content = packed(titles, round % 2 == 0);
            for (int n = random.nextInt(3); n >= 0; n--) {
                content[random.nextInt(random.nextBoolean() ? content.length : 64)] ^= 1 << random.nextInt(8);
            }
            int length = random.nextInt(4) > 0 ? content.length : random.nextInt(content.length);
            File file = written(Arrays.copyOf(content, length));
            try {
                Bundles.unpack(file, place);
            } catch (BundleException named) {
                refused++;
                demand(!place.exists() && place.getParentFile().list() == null
                        || place.getParentFile().list().length == (place.exists() ? 1 : 0), "something is left");
            }
        }
        demand(refused > 300, refused + " refused");
    }

    // Rollback indices.

    /** Write a bundle with an index, and return its manifest. */
    private static byte[] indexed(File from, File to, long index) throws IOException {
        Vectors.copy(from, to);
        File file = new File(to, Manifest.NAME);
        String text = Vectors.text(file).replaceFirst("\\{", "{\"rollback_index\":" + index + ",");
        Files.write(file.toPath(), text.getBytes(StandardCharsets.UTF_8));
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Return a patch that brings a whole manifest: one run of no copies, followed by its bytes. */
    private static byte[] patch(byte[] base, byte[] manifest) throws IOException {
        String header = "{\"format\":\"edgerec.patch\",\"version\":\"1.0\",\"base\":{\"manifest\":\""
                + Signatures.sha256(base) + "\"},\"manifest\":{\"bytes\":" + manifest.length + ",\"sha256\":\""
                + Signatures.sha256(manifest) + "\",\"copies\":1},\"files\":[],\"sides\":{},\"sections\":[]}\n";
        Coded.Bytes stream = new Coded.Bytes();
        stream.writeBytes(header.getBytes(StandardCharsets.UTF_8));
        for (int shift = 0; shift < 32; shift += 8) { // byte by byte: skip 0, count 0, and the insertion
            stream.number(0, 2).number(manifest.length >> shift, 1);
        }
        stream.writeBytes(manifest);
        Coded.Bytes signed = new Coded.Bytes().number(stream.size(), 8);
        signed.writeBytes(deflated(stream.toByteArray()));
        Coded.Bytes whole = new Coded.Bytes();
        whole.writeBytes("edgerecP".getBytes(StandardCharsets.US_ASCII));
        whole.number(1, 2).number(0, 2).writeBytes(Signatures.digest().digest(signed.toByteArray()));
        whole.writeBytes(signed.toByteArray());
        return whole.toByteArray();
    }

    private void smallerRollbackIndicesAreRefused() throws Exception {
        File titles = new File(bundles, "titles");
        File place = new File(scratch, "indexed");
        File other = new File(scratch, "other");
        byte[] five = indexed(titles, place, 5);
        demand(Recommender.metadata(place).rollbackIndex == 5, "the index");
        demand(Recommender.metadata(titles).rollbackIndex == 0, "no index");
        Recommender.load(place, new Options().minRollbackIndex(5)).close();
        String wanted = "has the rollback index 5, and at least 6 is wanted; get a newer bundle";
        refuses(SignatureException.class, wanted, () -> Recommender.load(place, new Options().minRollbackIndex(6)));
        refuses(SignatureException.class, "has the rollback index 0",
                () -> Recommender.load(titles, new Options().minRollbackIndex(1)));
        refuses(RequestException.class, "from 0 on, got -1", () -> new Options().minRollbackIndex(-1));
        byte[] four = indexed(titles, other, 4);
        refuses(PatchException.class, "has the rollback index 4, smaller than the 5 of this one",
                () -> Patches.apply(place, patch(five, four)));
        refuses(PatchException.class, "has the rollback index 0, smaller than the 5",
                () -> Patches.apply(place, patch(five, Files.readAllBytes(new File(titles, Manifest.NAME).toPath()))));
        demand(Arrays.equals(contents(place).get(Manifest.NAME), five), "nothing was changed");
        // The same index may go and come back.
        byte[] same = new String(five, StandardCharsets.UTF_8).replaceFirst("\"backbone\"", "\"x\":1,\"backbone\"")
                .getBytes(StandardCharsets.UTF_8);
        demand(Patches.apply(place, patch(five, same)), "another bundle");
        Patches.undo(place);
        demand(Arrays.equals(contents(place).get(Manifest.NAME), five), "undone");
        byte[] seven = indexed(titles, other, 7);
        Options eight = new Options().minRollbackIndex(8);
        refuses(SignatureException.class, "has the rollback index 7, and at least 8 is wanted",
                () -> Patches.apply(place, patch(five, seven), eight));
        demand(Patches.apply(place, patch(five, seven), new Options().minRollbackIndex(7)), "a newer bundle");
        refuses(PatchException.class, "has the rollback index 5, smaller than the 7 of this one",
                () -> Patches.undo(place));
        List<String> names = new ArrayList<>(Arrays.asList(place.list()));
        Collections.sort(names);
        demand(Arrays.equals(contents(place).get(Manifest.NAME), seven) && names.contains(Patches.PREVIOUS), names);
    }
}
