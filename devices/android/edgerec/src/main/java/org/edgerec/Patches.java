package org.edgerec;

import static org.edgerec.PatchException.need;

import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Patches: small files that turn one bundle into another, for updates over the air. */
public final class Patches {
    static final String PREVIOUS = "manifest.previous.json";
    private static final Pattern OURS =
            Pattern.compile("(?:tables|recommend|score|similar|encode|README)-([0-9a-f]{12})\\.(?:bin|onnx|md)");

    /** Bytes of a run of copies, which is three numbers. */
    private static final int RUN = 12;

    private Patches() {}

    /** Apply a patch without trusted keys; see {@link #apply(File, byte[], Options)}. */
    public static boolean apply(File folder, byte[] patch) {
        return apply(folder, patch, new Options());
    }

    /**
     * Apply a patch to the bundle in a folder, completely or not at all: the manifest is renamed last. Open
     * recommenders continue to use the old bundle, whose files stay until the next patch; {@code load} opens the new
     * one. Only one thread and process may do this at a time.
     *
     * @param patch the bytes of a file that {@code edgerec diff} wrote.
     * @param options its trusted keys must have signed the new bundle too, which has its rollback index at least.
     * @return false if the bundle was the patch's target already.
     * @throws PatchException damaged, too new, for another bundle, or to one with a smaller rollback index; nothing was
     *     changed.
     * @throws BundleException the bundle is not complete.
     * @throws SignatureException none of the trusted keys signed the old bundle, or the new one, or the new one has a
     *     smaller rollback index than the options.
     * @throws MissingException the folder cannot be written.
     */
    public static boolean apply(File folder, byte[] patch, Options options) {
        byte[] document = Bundle.document(folder, options);
        Manifest base = new Manifest(document);
        PatchParts parts = null;
        try {
            parts = new PatchParts(patch, base.bytes);
            Map<String, byte[]> changed = new Patches.Application(folder, base, document, parts, options).files();
            if (changed == null) {
                return false;
            }
            byte[] manifest = changed.remove(Manifest.NAME);
            for (Map.Entry<String, byte[]> one : changed.entrySet()) {
                write(folder, one.getKey(), one.getValue());
            }
            write(folder, PREVIOUS, document);
            write(folder, Manifest.NAME, manifest);
            clean(folder);
            return true;
        } catch (ClassCastException | NullPointerException | IndexOutOfBoundsException | ArithmeticException
                | IllegalArgumentException | NegativeArraySizeException hostile) {
            throw PatchException.damaged(String.valueOf(hostile.getMessage()));
        } catch (IOException error) {
            throw new MissingException("the bundle in " + folder + " cannot be replaced (" + error.getMessage()
                    + "); free space there", error);
        } finally {
            if (parts != null) {
                parts.close();
            }
        }
    }

    /**
     * Undo the last patch of the bundle in a folder.
     *
     * @throws PatchException there is nothing to undo, or the bundle before has a smaller rollback index.
     * @throws BundleException the bundle before the patch is not complete.
     * @throws MissingException the folder cannot be written.
     */
    public static void undo(File folder) {
        File previous = new File(folder, PREVIOUS);
        if (!previous.isFile()) {
            throw new PatchException(
                    folder + " holds no bundle before this one; no patch was applied, or it was undone");
        }
        Manifest manifest = new Manifest(Bundle.document(previous));
        refuseRollback(Bundle.openManifest(folder, new Options()), manifest, "the bundle before this one");
        for (Manifest.Entry entry : manifest.files()) {
            Bundle.verified(folder, entry);
        }
        if (!previous.renameTo(new File(folder, Manifest.NAME))) {
            throw new MissingException(previous + " cannot be renamed; fix the permissions of its folder", null);
        }
        clean(folder);
    }

    private static void refuseRollback(Manifest from, Manifest to, String what) {
        if (to.rollbackIndex < from.rollbackIndex) {
            throw new PatchException(what + " has the rollback index " + to.rollbackIndex + ", smaller than the "
                    + from.rollbackIndex + " of this one; get a newer bundle");
        }
    }

    private static void write(File folder, String name, byte[] content) throws IOException {
        File file = new File(folder, name);
        Bundles.write(new ByteArrayInputStream(content), file, content.length, Signatures.sha256(content));
    }

    /** Delete files that neither this bundle nor the one before it names. */
    private static void clean(File folder) {
        Set<String> named = new HashSet<>();
        named.add(PREVIOUS);
        for (String name : new String[] {Manifest.NAME, PREVIOUS}) {
            File file = new File(folder, name);
            if (file.isFile()) {
                for (Manifest.Entry entry : new Manifest(Bundle.document(file)).files()) {
                    named.add(entry.file);
                }
            }
        }
        String[] names = folder.list();
        for (String name : names == null ? new String[0] : names) {
            if (Bundles.OURS.matcher(name).matches() && !named.contains(name)) {
                new File(folder, name).delete(); // on failure, the next patch tries again
            }
        }
    }

    /** The application of one patch to one bundle. */
    private static final class Application {
        private final File folder;
        private final Manifest base;
        private final byte[] document;
        private final PatchParts parts;
        private final Options options;
        private final Map<String, Manifest.Entry> wanted = new HashMap<>();
        private final Map<String, byte[]> changed = new LinkedHashMap<>();

        Application(File folder, Manifest base, byte[] document, PatchParts parts, Options options) {
            this.folder = folder;
            this.base = base;
            this.document = document;
            this.parts = parts;
            this.options = options;
        }

        /** Rebuild the changed files and the manifest; null if the base is the patch's target already. */
        Map<String, byte[]> files() {
            Map<?, ?> target = (Map<?, ?>) parts.header.get("manifest");
            String digest = Signatures.sha256(document);
            if (digest.equals(target.get("sha256"))) {
                return null;
            }
            if (!digest.equals(((Map<?, ?>) parts.header.get("base")).get("manifest"))) {
                throw new PatchException(
                        "the patch is for another bundle; apply patches in their order, or get the whole bundle");
            }
            long most = Spec.GROWTH * (base.bytes + parts.inflated) + Spec.GROWTH_ROOM;
            long largest = Math.min(most, Manifest.MOST_BYTES);
            parts.ready(RUN * ((Long) target.get("bytes") / Spec.BYTES_A_RUN + 1) + (Long) target.get("bytes"));
            byte[] manifest = joined(ByteBuffer.wrap(document), (Long) target.get("bytes"), target, largest);
            boolean right = Signatures.sha256(manifest).equals(target.get("sha256"));
            need(right, "it makes another manifest than it promises");
            if (options.trusted != null) {
                Signatures.check(manifest, options.trusted);
            }
            Manifest result = new Manifest(manifest);
            refuseRollback(base, result, "the patch's bundle");
            Signatures.checkIndex(result, options);
            boolean fits = result.bytes <= most && result.tables.bytes <= Integer.MAX_VALUE - 8;
            need(fits, "a bundle of " + result.bytes + " bytes");
            // The rest of the stream is inflated only after the new manifest's signature was checked.
            parts.ready(parts.inflated);
            Map<String, Manifest.Entry> before = new HashMap<>();
            for (Manifest.Entry entry : base.files()) {
                before.put(entry.file, entry);
            }
            for (Manifest.Entry entry : result.files()) {
                Manifest.Entry old = before.get(entry.file);
                if (old == null || !old.sha256.equals(entry.sha256)) {
                    wanted.put(entry.file, entry);
                }
            }
            for (Object one : (List<?>) parts.header.get("files")) {
                Map<?, ?> fields = (Map<?, ?>) one;
                ByteBuffer source = fields.get("from") == null ? ByteBuffer.allocate(0)
                        : ByteBuffer.wrap(Bundle.read(folder, before.get(fields.get("from"))));
                String name = (String) fields.get("file");
                take(name, joined(source, wanted.get(name).bytes, fields, most));
            }
            if (wanted.containsKey(result.tables.file)) {
                take(result.tables.file, tables(result));
            }
            need(wanted.isEmpty(), "it brings other files than its manifest names");
            parts.end();
            changed.put(Manifest.NAME, manifest);
            return changed;
        }

        private byte[] joined(ByteBuffer source, long bytes, Map<?, ?> fields, long most) {
            need(bytes >= 0 && bytes <= Math.min(most, Integer.MAX_VALUE - 8), "a file of " + bytes + " bytes");
            ByteBuffer content = ByteBuffer.allocate((int) bytes);
            long copies = (Long) fields.get("copies");
            parts.copies(copies, source.remaining(), bytes, Spec.BYTES_A_RUN).write(source, parts, content);
            return content.array();
        }

        private void take(String name, byte[] content) {
            Manifest.Entry entry = wanted.remove(name);
            Matcher named = OURS.matcher(name);
            need(entry != null && named.matches() && entry.sha256.startsWith(named.group(1)), "a file " + name);
            need(Signatures.sha256(content).equals(entry.sha256), "it makes another " + name + " than it promises");
            changed.put(name, content);
        }

        private byte[] tables(Manifest result) {
            ByteBuffer content = new Tables(Bundle.verified(folder, base.tables), base).content();
            byte[] whole = new byte[(int) result.tables.bytes];
            Map<String, int[]> sources = new HashMap<>();
            Map<String, boolean[]> touched = new HashMap<>();
            for (Map.Entry<?, ?> side : ((Map<?, ?>) parts.header.get("sides")).entrySet()) {
                boolean items = side.getKey().equals("item");
                Manifest.RowsEntry old = items ? base.items : base.users;
                Manifest.RowsEntry now = items ? result.items : result.users;
                Map<?, ?> fields = (Map<?, ?>) side.getValue();
                // A row takes at least 2 bits.
                need(now.rows <= 4L * whole.length, now.rows + " rows in tables that have no room for them");
                PatchParts.Copies copies = parts.copies((Long) fields.get("copies"), old.rows, now.rows, 1);
                boolean few = copies.inserted() <= Math.max(parts.left(), old.rows) + Spec.NEW_ROWS_ROOM;
                need(few, "more new rows than it can tell of");
                int[] rows = copies.sources(now.rows);
                sources.put((String) side.getKey(), rows);
                touched.put((String) side.getKey(), touched(rows, parts.values((Long) fields.get("changed"), 4)));
            }
            Set<String> waiting = new HashSet<>(result.sections.keySet());
            Map<String, int[]> oldLengths = new HashMap<>();
            Map<String, int[]> newLengths = new HashMap<>();
            for (Object one : (List<?>) parts.header.get("sections")) {
                Map<?, ?> fields = (Map<?, ?>) one;
                String name = (String) fields.get("name");
                need(waiting.remove(name), "a section " + name);
                Manifest.Section section = result.sections.get(name);
                ByteBuffer target = ByteBuffer.wrap(whole, (int) section.offset, (int) section.bytes);
                ByteBuffer source = fields.get("from") == null ? ByteBuffer.allocate(0)
                        : part(content, base.sections.get(fields.get("from")));
                if (!fields.containsKey("side")) {
                    long copies = (Long) fields.get("copies");
                    parts.copies(copies, source.remaining(), section.bytes, Spec.BYTES_A_RUN)
                            .write(source, parts, target);
                    continue;
                }
                int[] rows = sources.get(fields.get("side"));
                byte[] stored = new byte[source.remaining()];
                source.get(stored);
                int size = section.size();
                Map<?, ?> form = (Map<?, ?>) fields.get("new");
                PatchParts.Units units = new PatchParts.Units(stored, base.sections.get(fields.get("from")).size());
                PatchRows before = PatchRows.of(units, (Map<?, ?>) fields.get("old"), oldLengths);
                PatchRows after = PatchRows.zeroRows(form, size, section.bytes / size, newLengths);
                need(after.width.length == rows.length, "a section " + name + " with other rows than its side");
                after.fill(before, rows, touched.get(fields.get("side")), parts);
                target.put(after.packed((int) section.bytes / size));
                if (form.containsKey("pointers")) {
                    oldLengths.put(name, before.lengths());
                    newLengths.put(name, after.lengths());
                }
            }
            need(waiting.isEmpty(), "other sections than the manifest's");
            return whole;
        }

        private static boolean[] touched(int[] sources, PatchParts.Units distances) {
            boolean[] touched = new boolean[sources.length];
            for (int row = 0; row < sources.length; row++) {
                touched[row] = sources[row] < 0;
            }
            long row = 0;
            for (int n = 0; n < distances.count(); n++) {
                row += distances.get(n);
                need(row < sources.length, "a row is changed that is not there");
                touched[(int) row] = true;
            }
            return touched;
        }

        private static ByteBuffer part(ByteBuffer content, Manifest.Section section) {
            ByteBuffer view = content.duplicate();
            view.limit((int) (section.offset + section.bytes)).position((int) section.offset);
            return view.slice();
        }
    }
}
