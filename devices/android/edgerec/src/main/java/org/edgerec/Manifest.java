package org.edgerec;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A bundle's manifest, which describes all its files and sections; checked before any other file is opened. */
final class Manifest {
    static final String NAME = "manifest.json";
    /** Maximum size of a manifest; typical ones have a few thousand bytes. */
    static final long MOST_BYTES = Spec.MANIFEST_BYTES;

    private static final Pattern FILE = Pattern.compile("(?!\\.|manifest\\.json$)[\\w.-]{1,255}");
    private static final Pattern SHA256 = Pattern.compile("[0-9a-f]{64}");
    /** Largest rollback index: every language can represent it. */
    private static final long LARGEST_INDEX = (1L << 53) - 1;
    private static final Pattern VERSION = Pattern.compile("(\\d{1,9})\\.\\d{1,9}");

    /** A file of the bundle. */
    static final class Entry {
        final String file;
        final long bytes;
        final String sha256;

        Entry(String file, long bytes, String sha256) {
            this.file = file;
            this.bytes = bytes;
            this.sha256 = sha256;
        }
    }

    /** An array inside the tables file: offset in bytes, row-major shape, its bytes. */
    static final class Section {
        final long offset;
        final String dtype;
        final long[] shape;
        final long bytes;

        Section(long offset, String dtype, long[] shape, long bytes) {
            this.offset = offset;
            this.dtype = dtype;
            this.shape = shape;
            this.bytes = bytes;
        }

        /** The size of an entry in bytes. */
        int size() {
            return Manifest.size(dtype);
        }
    }

    /** A graph's file, and its external tensors by name. */
    static final class Graph {
        final Entry entry;
        final Map<String, Section> tensors;

        Graph(Entry entry, Map<String, Section> tensors) {
            this.entry = entry;
            this.tensors = tensors;
        }
    }

    /** The rows of users or items; ids ascend within a block of rows. */
    static final class RowsEntry {
        final int rows;
        /** Number of rows of each block. */
        final int[] blocks;
        /** "int", "str", "none", or from version 2 on "hash64". */
        final String ids;

        RowsEntry(int rows, int[] blocks, String ids) {
            this.rows = rows;
            this.blocks = blocks;
            this.ids = ids;
        }
    }

    final String version;
    final int major;
    final String layout;
    final String precision;
    final int d;
    final RowsEntry items;
    private static final String POPULAR = "popular_items";

    /** Null if user vectors are computed from histories. */
    final RowsEntry users;
    final Entry tables;
    final Map<String, Graph> graphs = new LinkedHashMap<>();
    final Map<String, Section> sections;
    /** onnxruntime's session options that the layout needs. */
    final Map<String, Object> session;
    /** Name of the section with the rows of the most popular items; null if there is none. */
    final String popular;
    final List<Entry> others = new ArrayList<>();
    /** Names of the attributes of items; the sections of each begin with 'attribute_' and its number. */
    final List<String> attributes = new ArrayList<>();
    final Map<String, Object> about;
    /** Readers that have seen this bundle do not go back below this number. */
    final long rollbackIndex;
    /** Size of all files. */
    final long bytes;

    /**
     * Parse and check a manifest.
     *
     * @throws BundleException no manifest, a damaged one, one of a newer major version, or one that requires a feature
     *     which this reader does not know.
     */
    Manifest(byte[] content) {
        Map<String, Object> fields = fields(content);
        version = String.valueOf(fields.get("version"));
        Matcher parts = VERSION.matcher(version);
        demand(fields.get("version") instanceof String && parts.matches(), "version");
        major = Integer.parseInt(parts.group(1));
        if (major > Spec.MAJOR) {
            throw new BundleException("the bundle has version " + version + ", this reader knows versions up to "
                    + Spec.MAJOR + ".x; update edgerec");
        }
        refuseRequired(fields);
        rollbackIndex = fields.containsKey("rollback_index")
                ? whole(fields.get("rollback_index"), "rollback_index") : 0;
        demand(rollbackIndex <= LARGEST_INDEX, "rollback_index");
        for (String name : new String[] {"layout", "precision", "users", "encoder"}) {
            demand(fields.containsKey(name), name);
        }
        tables = entry(fields.get("tables"), "tables");
        for (Map.Entry<String, Object> one : object(fields.get("graphs"), "graphs").entrySet()) {
            Map<String, Object> graph = object(one.getValue(), one.getKey());
            Entry entry = entry(graph, one.getKey());
            demand(entry.bytes <= Spec.GRAPH_BYTES, one.getKey());
            graphs.put(one.getKey(), new Graph(entry, places(graph.get("tensors"), one.getKey(), Spec.TENSORS)));
        }
        demand(graphs.size() <= Spec.GRAPHS, "graphs");
        demand(graphs.containsKey("recommend"), "recommend");
        for (Object one : list(fields.get("other_files"), "other_files")) {
            others.add(entry(one, "other_files"));
        }
        layout = String.valueOf(fields.get("layout"));
        precision = String.valueOf(fields.get("precision"));
        d = whole(fields.get("d"), "d", 1, Integer.MAX_VALUE);
        items = rowsEntry(fields.get("items"), "items");
        users = fields.get("users") == null ? null : rowsEntry(fields.get("users"), "users");
        sections = places(fields.get("sections"), "sections", Spec.SECTIONS);
        session = object(fields.get("session"), "session");
        about = object(fields.get("about"), "about");
        popular = popular(fields.get("encoder"));
        if (fields.containsKey("item_attributes")) {
            readAttributes(list(fields.get("item_attributes"), "item_attributes"));
        }
        long sum = content.length;
        Set<String> names = new HashSet<>();
        for (Entry entry : files()) {
            boolean few = names.add(entry.file) && names.size() <= Spec.FILES;
            demand(few && entry.bytes <= Long.MAX_VALUE - sum, "other_files");
            sum += entry.bytes;
        }
        bytes = sum;
        checkSections();
    }

    /** List all files except the manifest. */
    List<Entry> files() {
        List<Entry> all = new ArrayList<>(others);
        all.add(tables);
        for (Graph graph : graphs.values()) {
            all.add(graph.entry);
        }
        return all;
    }

    private static Map<String, Object> fields(byte[] content) {
        try {
            Map<String, Object> fields = object(Json.parse(content), NAME);
            if ("edgerec.bundle".equals(fields.get("format"))) {
                return fields;
            }
        } catch (IllegalArgumentException | BundleException none) {
            // Reported below.
        }
        throw new BundleException(NAME + " describes no bundle of EdgeRec; export one");
    }

    /** Refuse a bundle that requires any feature: this reader has none but those of its version. */
    private static void refuseRequired(Map<String, Object> fields) {
        if (!fields.containsKey("requires")) {
            return;
        }
        Set<String> names = new TreeSet<>();
        for (Object name : list(fields.get("requires"), "requires")) {
            demand(name instanceof String, "requires");
            names.add((String) name);
        }
        if (!names.isEmpty()) {
            throw new BundleException("the bundle requires " + String.join(", ", names)
                    + ", which this reader does not know; update edgerec");
        }
    }

    /** Check that the sections that readers use exist and are vectors of whole numbers of the right length. */
    private void checkSections() {
        checkIds("item_id", items);
        if (users != null) {
            checkIds("user_id", users);
        }
        if (sections.containsKey("item_titles")) {
            checkTexts("item_title", items.rows);
        }
        for (int n = 0; n < attributes.size(); n++) {
            checkAttribute("attribute_" + n);
        }
        if (popular != null) {
            checkVector(popular, -1);
        }
    }

    private void checkIds(String name, RowsEntry side) {
        if (major > 1 && !side.ids.equals("none")) {
            checkVector(name + "s", -1, "uint8");
        } else if (side.ids.equals("int")) {
            checkVector(name + "s", side.rows);
        } else if (side.ids.equals("str")) {
            checkTexts(name, side.rows);
        }
    }

    private void checkTexts(String name, int rows) {
        checkVector(name + "s", -1);
        checkVector(name + "_offsets", rows + 1L);
    }

    private void checkAttribute(String name) {
        checkVector(name, items.rows, "uint8|uint16|uint32");
        checkVector(name + "_texts", -1, "uint8");
        checkVector(name + "_text_offsets", -1, "uint32|int64");
        demand(sections.get(name + "_text_offsets").shape[0] > 0, name + "_text_offsets");
    }

    private void checkVector(String name, long length) {
        checkVector(name, length, ".*int.*");
    }

    private void checkVector(String name, long length, String dtypes) {
        Section section = sections.get(name);
        demand(section != null && section.shape.length == 1 && section.dtype.matches(dtypes), name);
        demand(length < 0 || section.shape[0] == length, name);
    }

    private static void demand(boolean holds, String name) {
        if (!holds) {
            throw new BundleException(NAME + " is damaged at '" + name + "'; copy it again");
        }
    }

    @SuppressWarnings("unchecked") // JSON's keys are text
    private static Map<String, Object> object(Object value, String name) {
        demand(value instanceof Map, name);
        return (Map<String, Object>) value;
    }

    private static List<?> list(Object value, String name) {
        demand(value instanceof List, name);
        return (List<?>) value;
    }

    private static long whole(Object value, String name) {
        demand(value instanceof Long && (Long) value >= 0, name);
        return (Long) value;
    }

    private static int whole(Object value, String name, int least, int most) {
        long number = whole(value, name);
        demand(number >= least && number <= most, name);
        return (int) number;
    }

    /** File names never contain a path. */
    private static Entry entry(Object value, String name) {
        Map<String, Object> fields = object(value, name);
        String file = String.valueOf(fields.get("file"));
        String sha256 = String.valueOf(fields.get("sha256"));
        demand(fields.get("file") instanceof String && FILE.matcher(file).matches(), file);
        demand(SHA256.matcher(sha256).matches(), file);
        return new Entry(file, whole(fields.get("bytes"), name), sha256);
    }

    private Map<String, Section> places(Object value, String name, int most) {
        Map<String, Section> found = new LinkedHashMap<>();
        demand(object(value, name).size() <= most, name);
        for (Map.Entry<String, Object> one : object(value, name).entrySet()) {
            found.put(one.getKey(), section(one.getValue(), one.getKey()));
        }
        return found;
    }

    private Section section(Object value, String name) {
        List<?> place = list(value, name);
        demand(place.size() == 3 && place.get(1) instanceof String, name);
        demand(Spec.DTYPES.contains(place.get(1)), name);
        List<?> lengths = list(place.get(2), name);
        demand(lengths.size() <= Spec.AXES, name);
        long[] shape = new long[lengths.size()];
        long bytes = size((String) place.get(1));
        for (int n = 0; n < shape.length; n++) {
            shape[n] = whole(lengths.get(n), name);
            demand(shape[n] == 0 || bytes <= Long.MAX_VALUE / shape[n], name);
            bytes *= shape[n];
        }
        long offset = whole(place.get(0), name);
        demand(offset % size((String) place.get(1)) == 0, name);
        demand(offset <= tables.bytes && bytes <= tables.bytes - offset, name);
        return new Section(offset, (String) place.get(1), shape, bytes);
    }

    /** Return the size of an entry of a data type in bytes. */
    private static int size(String dtype) {
        return Integer.parseInt(dtype.replaceAll("\\D+", "")) / 8;
    }

    private RowsEntry rowsEntry(Object value, String name) {
        Map<String, Object> fields = object(value, name);
        String ids = String.valueOf(fields.get("ids"));
        demand(ids.matches(major > 1 ? "int|str|none|hash64" : "int|str|none"), name);
        List<?> listed = list(fields.get("blocks"), name);
        int[] blocks = new int[listed.size()];
        long sum = 0;
        for (int n = 0; n < blocks.length; n++) {
            List<?> block = list(listed.get(n), name);
            demand(block.size() == 2, name);
            whole(block.get(0), name, 1, Integer.MAX_VALUE);
            blocks[n] = whole(block.get(1), name, 1, Integer.MAX_VALUE);
            sum += blocks[n];
        }
        int rows = whole(fields.get("rows"), name, 1, Integer.MAX_VALUE - 1);
        demand(rows == sum, name);
        return new RowsEntry(rows, blocks, ids);
    }

    private void readAttributes(List<?> names) {
        demand(!names.isEmpty() && names.size() <= Spec.ATTRIBUTES, "item_attributes");
        for (Object name : names) {
            demand(name instanceof String && !name.equals("") && !attributes.contains(name), "item_attributes");
            attributes.add((String) name);
        }
    }

    private String popular(Object encoder) {
        if (encoder == null) {
            return sections.containsKey(POPULAR) ? POPULAR : null;
        }
        Object name = object(encoder, "encoder").get("empty_history");
        boolean known = object(encoder, "encoder").containsKey("empty_history");
        demand(known && (name == null || name instanceof String), "empty_history");
        return (String) name;
    }
}
