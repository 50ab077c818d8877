package org.edgerec;

import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.IntToDoubleFunction;
import java.util.function.Supplier;

/**
 * A recommender over a bundle: raw ids in, raw ids out. Thread-safe. Loading blocks: do not use it on the main thread.
 *
 * <pre>{@code
 * try (Recommender model = Recommender.load(new File(context.getFilesDir(), "films.bundle"))) {
 *     for (Recommendation one : model.recommend(Request.ofHistory(Arrays.asList(1, 50)).k(10))) {
 *         System.out.println(model.title(one.item) + " " + one.score);
 *     }
 * }
 * }</pre>
 */
public final class Recommender implements AutoCloseable {
    private static final long[] PADDING = {-1};
    /** Graphs square values, which neither overflow nor vanish between 2^-32 and 2^32. */
    private static final float LARGEST = 1L << 32;
    /** Largest rarity of a request, and the largest below 0. */
    private static final int MOST_RARITY = 2;

    private final Bundle bundle;
    private final Manifest manifest;
    private final Ids items;
    private final Ids users;
    private final Tables.Texts titles;
    /** In the manifest's order. */
    private final Map<String, Tables.Attribute> attributes = new LinkedHashMap<>();
    private final Metadata metadata;
    private final ReadWriteLock open = new ReentrantReadWriteLock();
    private boolean closed;
    /** Read on the first request with a rarity; null before, and if the bundle has none that differ. */
    private volatile Weights weights;

    private Recommender(Bundle bundle) {
        this.bundle = bundle;
        manifest = bundle.manifest;
        items = new Ids(bundle, "item", manifest.items);
        users = manifest.users == null ? null : new Ids(bundle, "user", manifest.users);
        titles = manifest.sections.containsKey("item_titles") ? bundle.tables.texts("item_title") : null;
        for (String name : manifest.attributes) {
            attributes.put(name, bundle.tables.attribute(attributes.size()));
        }
        metadata = new Metadata(manifest);
    }

    /**
     * Open the bundle in a folder and compare every file by sha256.
     *
     * @throws BundleException not a bundle, incomplete, altered, or too new; the message names the file.
     */
    public static Recommender load(File folder) {
        return load(folder, new Options());
    }

    /**
     * Open the bundle in a folder. No other app may be able to write there: onnxruntime opens each graph by its path on
     * first use.
     *
     * @throws SignatureException a BundleException, with trusted keys: unsigned, signed with another key, or altered.
     * @throws BundleException not a bundle, incomplete, altered, or too new; the message names the file.
     */
    public static Recommender load(File folder, Options options) {
        return new Recommender(new Bundle(folder, options));
    }

    /** Read the metadata of the bundle in a folder without its tables. Throws BundleException. */
    public static Metadata metadata(File folder) {
        return new Metadata(Bundle.openManifest(folder, new Options()));
    }

    /**
     * Return the hash of a text id. A bundle exported with {@code --ids hash64} takes text in requests, and its answers
     * name items and users by their hashes.
     *
     * @return 16 hexadecimal digits, in lower case.
     * @throws RequestException null, or text with half a character, which no id has.
     */
    public static String idHash(String id) {
        return Ids.hash(id);
    }

    /** Return the bundle's metadata. */
    public Metadata metadata() {
        return metadata;
    }

    /**
     * Return the k best items, best first; fewer if fewer are left. For an empty history every score is 0 and the most
     * popular items come first. With a rarity, scores are those that it changed, and equal ones come by row.
     *
     * @throws RequestException an unknown user or item, k outside 1..items, the wrong one of user, history and vector,
     *     an empty history if the bundle does not list popular items, or a rarity that is NaN, outside -2..2, or not 0
     *     if the bundle does not say which items are rare.
     * @throws BundleException an invalid answer of the bundle: unknown rows, or numbers that are not finite.
     */
    public List<Recommendation> recommend(Request request) {
        return whileOpen(() -> {
            checkLimits(request);
            BitSet gone = gone(request);
            BitSet allowed = allowed(request);
            long[] past = past(request);
            IntToDoubleFunction factors = factors(request.rarity);
            Bundle.Feed feed = feed(request, past);
            if (past != null) {
                gone.or(set(past));
            }
            if (past != null && past.length == 0) {
                return popular(gone, allowed, request.k);
            }
            if (allowed == null) {
                return ranked(feed, gone, factors, request.k);
            }
            // Scoring a short list is cheaper than excluding the rest of the catalogue (edgerec/runtime/ranking.py).
            if ((long) allowed.cardinality() * manifest.d <= manifest.items.rows) {
                allowed.andNot(gone);
                long[] rows = rows(allowed);
                return best(changed(new Scored(rows, scored(feed, rows)), factors), request.k);
            }
            return ranked(feed, complement(allowed, gone), factors, request.k);
        });
    }

    /** Return the k most popular items, as popular(Request.ofNobody().k(k)) does. */
    public List<Recommendation> popular(int k) {
        return popular(Request.ofNobody().k(k));
    }

    /**
     * Return the k items with the most interactions in training, best first, all with score 0. A bundle lists 256;
     * others follow by row.
     *
     * @throws RequestException an unknown item, k outside 1..items, a request for somebody, or a bundle that lists none.
     */
    public List<Recommendation> popular(Request request) {
        return whileOpen(() -> {
            checkLimits(request);
            if (request.user != null || request.history != null || request.vector != null || request.item != null) {
                throw new RequestException("popular items are nobody's in particular; give Request.ofNobody");
            }
            return popular(gone(request), allowed(request), request.k);
        });
    }

    /** Return the scores of items, in order; zeros for an empty history. Throws like recommend. */
    public float[] score(Request who, Collection<?> candidates) {
        return whileOpen(() -> {
            demandRequest(who);
            long[] rows = items.rows(candidates);
            return scored(feed(who, past(who)), rows);
        });
    }

    /**
     * Return the k items most similar to an item by the cosine of their vectors, without the item.
     *
     * @throws RequestException an unknown item, k outside 1..items, or a bundle without a 'similar' graph.
     */
    public List<Recommendation> similar(Object item, int k) {
        return similar(Request.ofItem(item).k(k));
    }

    /**
     * Return the items most similar to that of Request.ofItem. The more items the request's lists leave out, the longer
     * it takes. Throws as similar(item, k) does.
     */
    public List<Recommendation> similar(Request request) {
        return whileOpen(() -> {
            checkLimits(request);
            int row = items.row(request.item);
            BitSet gone = gone(request);
            gone.set(row);
            BitSet allowed = allowed(request);
            BitSet out = allowed == null ? gone : complement(allowed, gone);
            Bundle.Feed feed = new Bundle.Feed().put("item", new long[] {row}, 1);
            // The graph takes no lists: it ranks as many more items as lists leave out.
            int more = Math.min(request.k + out.cardinality() - 1, manifest.items.rows);
            return first(ranked("similar", feed, more, manifest.items.rows - 1), out, request.k);
        });
    }

    /**
     * Compute the vector of a history; zeros for an empty one.
     *
     * @throws RequestException an unknown item, or a bundle without an 'encode' graph.
     */
    public float[] encode(Collection<?> history) {
        return encode(history, OnUnknown.ERROR);
    }

    /** Compute the vector of a history, with unknown items refused or left out. Throws as encode(history) does. */
    public float[] encode(Collection<?> history, OnUnknown onUnknown) {
        return whileOpen(() -> vector(past(Request.ofHistory(history).onUnknown(onUnknown))));
    }

    /** Return an item's title; null if the bundle has none. Throws RequestException for an unknown item. */
    public String title(Object item) {
        int row = items.row(item);
        byte[] title = titles == null ? new byte[0] : titles.at(row);
        return title.length == 0 ? null : Ids.decoded(title);
    }

    /** Return an item's attributes, without those it has no text for. Throws RequestException for an unknown item. */
    public Map<String, String> attributes(Object item) {
        int row = items.row(item);
        Map<String, String> found = new LinkedHashMap<>();
        attributes.forEach((name, attribute) -> found.put(name, attribute.at(row)));
        found.values().removeIf(String::isEmpty);
        return Collections.unmodifiableMap(found);
    }

    /**
     * Return the ids, by row, of the items whose attribute is a value, or has it as one of the parts that | separates:
     * "Drama|Film" has both. Request.allow takes them.
     *
     * @throws RequestException the bundle has no attribute of this name, or the value is empty.
     */
    public List<Object> itemsWith(String name, String value) {
        Tables.Attribute attribute = attributes.get(name);
        if (attribute == null) {
            String names = attributes.isEmpty() ? "none" : String.join(", ", attributes.keySet());
            throw new RequestException("the bundle has no attribute '" + name + "' of items; it has " + names);
        }
        if (value == null || value.isEmpty()) {
            throw new RequestException("the value of '" + name + "' must be a text that is not empty");
        }
        BitSet numbers = attribute.numbers(value);
        List<Object> found = new ArrayList<>();
        for (int row = 0; row < manifest.items.rows; row++) {
            if (numbers.get(attribute.number(row))) {
                found.add(items.id(row));
            }
        }
        return found;
    }

    /** Return true if the bundle knows an item. */
    public boolean has(Object item) {
        return items.find(item) >= 0;
    }

    /** Return the id of every item, by row: its hash if the bundle has hashes. */
    public List<Object> items() {
        List<Object> all = new ArrayList<>(manifest.items.rows);
        for (int row = 0; row < manifest.items.rows; row++) {
            all.add(items.id(row));
        }
        return all;
    }

    /** Open a growing history in memory. Throws RequestException for a bundle with users. */
    public Session session() {
        return session(null);
    }

    /**
     * Open a growing history, stored in a file that only its owner may read.
     *
     * @throws RequestException the bundle has users.
     * @throws MissingException the file cannot be read, or contains something else.
     */
    public Session session(File store) {
        demandUsers(false);
        return new Session(this, store);
    }

    /** Release onnxruntime's memory after running calls have ended; later calls are errors. */
    @Override
    public void close() {
        open.writeLock().lock();
        try {
            closed = true;
            bundle.close();
        } finally {
            open.writeLock().unlock();
        }
    }

    private <T> T whileOpen(Supplier<T> answer) {
        open.readLock().lock();
        try {
            if (closed) {
                throw new RequestException("this bundle was closed; load it again");
            }
            return answer.get();
        } finally {
            open.readLock().unlock();
        }
    }

    private void checkLimits(Request request) {
        demandRequest(request);
        if (request.k < 1 || request.k > manifest.items.rows) {
            throw new RequestException("k must be a whole number in 1.." + manifest.items.rows + ", got " + request.k);
        }
    }

    /** Return the rows of the excluded items. */
    private BitSet gone(Request request) {
        return set(items.rows(request.exclude, request.onUnknown));
    }

    /** Return the rows of the allowed items; null for all. */
    private BitSet allowed(Request request) {
        return request.allow == null ? null : set(items.rows(request.allow, request.onUnknown));
    }

    /** Return all rows except the allowed ones, and the excluded ones. */
    private BitSet complement(BitSet allowed, BitSet gone) {
        BitSet out = (BitSet) allowed.clone();
        out.flip(0, manifest.items.rows);
        out.or(gone);
        return out;
    }

    private static void demandRequest(Request request) {
        if (request == null) {
            throw new RequestException("expected a request, got null; give Request.ofUser or Request.ofHistory");
        }
    }

    private void demandUsers(boolean wanted) {
        if ((users != null) != wanted) {
            throw new RequestException("this bundle has "
                    + (users == null ? "no users: give a history of items" : "users: give a user"));
        }
    }

    /** Return the rows of a history, each once; null for a user or a vector. */
    private long[] past(Request who) {
        if (who.user == null && who.history == null && who.vector == null) {
            throw new RequestException("give either a user or a history of item ids, or a vector");
        }
        demandUsers(who.user != null);
        return who.history == null ? null : Bundle.distinct(items.rows(who.history, who.onUnknown));
    }

    /** Return the graphs' inputs for a subject. */
    private Bundle.Feed feed(Request who, long[] past) {
        if (who.vector != null) {
            checkVector(who.vector);
            return new Bundle.Feed().put("vector", who.vector, 1, manifest.d);
        }
        if (past == null) {
            return new Bundle.Feed().put("user", new long[] {users.row(who.user)}, 1);
        }
        if (manifest.graphs.containsKey("encode")) {
            return new Bundle.Feed().put("vector", vector(past), 1, manifest.d);
        }
        return new Bundle.Feed().row("history", padded(past));
    }

    private void checkVector(float[] vector) {
        if (!manifest.graphs.containsKey("encode")) {
            throw new RequestException("this bundle takes no vector: give a history of items");
        }
        float largest = 0;
        for (float value : vector) {
            largest = Math.max(largest, Math.abs(value)); // NaN if one is
        }
        boolean ordinary = largest == 0 || (largest >= 1 / LARGEST && largest <= LARGEST);
        if (vector.length != manifest.d || !ordinary) {
            throw new RequestException("a vector is " + manifest.d + " numbers, of which the largest is between 2^-32"
                    + " and 2^32, got " + vector.length + ", up to " + largest);
        }
    }

    private float[] vector(long[] past) {
        return finite(bundle.run("encode", new Bundle.Feed().row("history", padded(past))), "vector", manifest.d);
    }

    /** Replace empty rows by a single -1: results for empty inputs differ by onnxruntime's version. */
    private static long[] padded(long[] rows) {
        return rows.length == 0 ? PADDING : rows;
    }

    /** Return what scores are multiplied by, by row; null for a rarity of 0. */
    private IntToDoubleFunction factors(double rarity) {
        if (!(Math.abs(rarity) <= MOST_RARITY)) { // NaN too
            throw new RequestException(
                    "rarity must be a number in -" + MOST_RARITY + ".." + MOST_RARITY + ", got " + rarity);
        }
        if (rarity == 0) {
            return null;
        }
        if (weights == null) {
            weights = Weights.of(bundle);
        }
        if (weights == null) {
            throw new RequestException("this bundle does not say which items are rare: rarity needs one without users "
                    + "of svd, lae with the encoder 'sum', or a fitted linear encoder");
        }
        return weights.factors(rarity);
    }

    /** Rows of items with their scores. */
    private static final class Scored {
        final long[] rows;
        final float[] scores;

        Scored(long[] rows, float[] scores) {
            this.rows = rows;
            this.scores = scores;
        }
    }

    /** Multiply scores above 0 by their factors, and divide others by them; unchanged if there are none. */
    private static Scored changed(Scored found, IntToDoubleFunction factors) {
        if (factors == null) {
            return found;
        }
        float[] scores = new float[found.scores.length];
        for (int n = 0; n < scores.length; n++) {
            float score = found.scores[n];
            double factor = factors.applyAsDouble((int) found.rows[n]);
            scores[n] = (float) (score > 0 ? score * factor : score / factor) + 0f; // -0 becomes 0, which it equals
        }
        return new Scored(found.rows, scores);
    }

    /** Return the best k items without the excluded ones. */
    private List<Recommendation> ranked(Bundle.Feed feed, BitSet excluded, IntToDoubleFunction factors, int k) {
        int left = manifest.items.rows - excluded.cardinality();
        // The graph knows no factors: with some, it ranks all items.
        int most = factors == null ? k : manifest.items.rows;
        Scored found = ranked("recommend", feed.row("exclude", padded(rows(excluded))), most, left);
        return factors == null ? first(found, new BitSet(), k) : best(changed(found, factors), k);
    }

    /**
     * Run a graph that returns the best k items, best first, and check its answer.
     *
     * @param left maximum number of items that the graph can return.
     */
    private Scored ranked(String graph, Bundle.Feed feed, int k, int left) {
        Map<String, Object> answer = bundle.run(graph, feed.put("k", new long[] {k}));
        Object found = answer.get("items");
        float[] scores = floats(answer, "scores");
        if (!(found instanceof long[]) || ((long[]) found).length != scores.length) {
            throw broken();
        }
        long[] rows = (long[]) found;
        int count = 0;
        for (int n = 0; n < scores.length; n++) {
            if (rows[n] >= manifest.items.rows || rows[n] < -1) {
                throw broken();
            }
            if (rows[n] >= 0) {
                demandFinite(scores[n]);
                rows[count] = rows[n];
                scores[count++] = scores[n];
            }
        }
        if (count != Math.min(k, left)) { // otherwise an item with score -inf would count as excluded
            throw broken();
        }
        return new Scored(Arrays.copyOf(rows, count), Arrays.copyOf(scores, count));
    }

    /** Return the first k items, without those of the rows `out`. */
    private List<Recommendation> first(Scored found, BitSet out, int k) {
        List<Recommendation> first = new ArrayList<>();
        for (int n = 0; n < found.rows.length && first.size() < k; n++) {
            int row = (int) found.rows[n];
            if (!out.get(row)) {
                first.add(new Recommendation(items.id(row), found.scores[n]));
            }
        }
        return first;
    }

    /** Return an output of `count` finite numbers. */
    private static float[] finite(Map<String, Object> answer, String name, int count) {
        float[] numbers = floats(answer, name);
        if (numbers.length != count) {
            throw broken();
        }
        for (float number : numbers) {
            demandFinite(number);
        }
        return numbers;
    }

    private static void demandFinite(float number) {
        if (Float.isNaN(number) || Float.isInfinite(number)) {
            throw broken();
        }
    }

    private static float[] floats(Map<String, Object> answer, String name) {
        if (!(answer.get(name) instanceof float[])) {
            throw broken();
        }
        return (float[]) answer.get(name);
    }

    private static BundleException broken() {
        return new BundleException("the bundle answers with what no bundle does; export it again");
    }

    private float[] scored(Bundle.Feed feed, long[] candidates) {
        if (candidates.length == 0) {
            return new float[0];
        }
        return finite(bundle.run("score", feed.row("candidates", candidates)), "scores", candidates.length);
    }

    /** Return the k best items; among equal scores the lower row comes first. */
    private List<Recommendation> best(Scored found, int k) {
        // Sorted without an object for each item: the upper half of a number is the score, the lower half the row.
        long[] order = new long[found.rows.length];
        for (int n = 0; n < order.length; n++) {
            order[n] = (long) ~ascending(Float.floatToIntBits(found.scores[n])) << 32 | found.rows[n];
        }
        Arrays.sort(order);
        List<Recommendation> best = new ArrayList<>();
        for (int n = 0; n < Math.min(k, order.length); n++) {
            float score = Float.intBitsToFloat(ascending(~(int) (order[n] >> 32)));
            demandFinite(score);
            best.add(new Recommendation(items.id((int) order[n]), score));
        }
        return best;
    }

    /** Return the bits of a float as a number that ascends with it, and back. */
    private static int ascending(int bits) {
        return bits < 0 ? bits ^ Integer.MAX_VALUE : bits;
    }

    /** Return the most popular items, then others by row, all with score 0, which is the score without a history. */
    private List<Recommendation> popular(BitSet gone, BitSet allowed, int k) {
        if (manifest.popular == null) {
            throw new RequestException("this bundle names no popular items, which answer an empty history too; "
                    + "export it again, your own tables with --item-counts");
        }
        Tables.Numbers ranking = bundle.tables.numbers(manifest.popular);
        long count = manifest.sections.get(manifest.popular).shape[0];
        BitSet taken = (BitSet) gone.clone();
        List<Recommendation> best = new ArrayList<>();
        for (long n = 0; n < count + manifest.items.rows && best.size() < k; n++) {
            long row = n < count ? ranking.at((int) n) : n - count;
            if (row < 0 || row >= manifest.items.rows) {
                throw broken();
            }
            if (!taken.get((int) row) && (allowed == null || allowed.get((int) row))) {
                taken.set((int) row);
                best.add(new Recommendation(items.id((int) row), 0));
            }
        }
        return best;
    }

    private static BitSet set(long[] rows) {
        BitSet found = new BitSet();
        for (long row : rows) {
            found.set((int) row);
        }
        return found;
    }

    private static long[] rows(BitSet set) {
        return set.stream().asLongStream().toArray();
    }
}
