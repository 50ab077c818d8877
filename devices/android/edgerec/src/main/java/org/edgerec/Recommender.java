package org.edgerec;

import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Supplier;

/**
 * Recommends from a bundle: raw ids in, raw ids out. Thread-safe; not for the main thread, which loading would block.
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

    private final Bundle bundle;
    private final Manifest manifest;
    private final Ids items;
    private final Ids users;
    private final Tables.Texts titles;
    private final Metadata metadata;
    private final ReadWriteLock open = new ReentrantReadWriteLock();
    private boolean closed;

    private Recommender(Bundle bundle) {
        this.bundle = bundle;
        manifest = bundle.manifest;
        items = new Ids(bundle.tables, "item", manifest.items);
        users = manifest.users == null ? null : new Ids(bundle.tables, "user", manifest.users);
        titles = manifest.sections.containsKey("item_titles") ? bundle.tables.texts("item_title") : null;
        metadata = new Metadata(manifest);
    }

    /**
     * Open the bundle in a folder, every file compared by sha256.
     *
     * @throws BundleException not a bundle, incomplete, altered, or too new; the message names the file.
     */
    public static Recommender load(File folder) {
        return load(folder, new Options());
    }

    /**
     * Open the bundle in a folder. Nobody else may write there: onnxruntime opens the graphs by their paths, when each
     * is first used.
     *
     * @throws SignatureException a BundleException, where keys are trusted: unsigned, signed with another, or altered.
     * @throws BundleException not a bundle, incomplete, altered, or too new; the message names the file.
     */
    public static Recommender load(File folder, Options options) {
        return new Recommender(new Bundle(folder, options));
    }

    /** What the bundle in a folder is, without its tables. Throws BundleException. */
    public static Metadata metadata(File folder) {
        return new Metadata(Bundle.openManifest(folder, new Options()));
    }

    /** What this bundle is. */
    public Metadata metadata() {
        return metadata;
    }

    /**
     * The k best items, best first; fewer where fewer are left. Of an empty history every score is 0 and the most
     * popular items come first.
     *
     * @throws RequestException an unknown user or item, k outside 1..items, the wrong one of user and history, or an
     *     empty history where the bundle does not say which items are popular.
     * @throws BundleException the bundle answers what no bundle does: rows that it does not have, numbers that are not
     *     finite.
     */
    public List<Recommendation> recommend(Request request) {
        return whileOpen(() -> {
            demandRequest(request);
            checkK(request.k);
            BitSet gone = set(items.rows(request.exclude));
            BitSet allowed = request.allow == null ? null : set(items.rows(request.allow));
            long[] past = past(request);
            Bundle.Feed feed = asked(request, past);
            if (past != null) {
                gone.or(set(past));
            }
            if (past != null && past.length == 0) {
                return popular(gone, allowed, request.k);
            }
            if (allowed == null) {
                return ranked(feed, gone, request.k);
            }
            // Scoring a short list is cheaper than excluding the rest of the catalogue (edgerec/runtime/ranking.py).
            if ((long) allowed.cardinality() * manifest.d <= manifest.items.rows) {
                allowed.andNot(gone);
                return best(rows(allowed), feed, request.k);
            }
            allowed.flip(0, manifest.items.rows);
            allowed.or(gone);
            return ranked(feed, allowed, request.k);
        });
    }

    /** Scores of the given items, in their order; zeros of an empty history. Throws what recommend does. */
    public float[] score(Request who, Collection<?> asked) {
        return whileOpen(() -> {
            demandRequest(who);
            long[] candidates = items.rows(asked);
            return scored(asked(who, past(who)), candidates);
        });
    }

    /**
     * The k items most like an item, itself left out, by the cosine of their vectors.
     *
     * @throws RequestException an unknown item, k outside 1..items, or a bundle without a 'similar' graph.
     */
    public List<Recommendation> similar(Object item, int k) {
        return whileOpen(() -> {
            checkK(k);
            Bundle.Feed feed = new Bundle.Feed().put("item", new long[] {items.row(item)}, 1);
            return ranked("similar", feed, k, manifest.items.rows - 1);
        });
    }

    /**
     * The vector of a history; zeros of an empty one.
     *
     * @throws RequestException an unknown item, or a bundle without an 'encode' graph.
     */
    public float[] encode(Collection<?> history) {
        return whileOpen(() -> {
            Request request = Request.ofHistory(history);
            return vector(past(request));
        });
    }

    /** The item's title; null where the bundle carries none. Throws RequestException for an unknown item. */
    public String title(Object item) {
        int row = items.row(item);
        byte[] title = titles == null ? new byte[0] : titles.at(row);
        return title.length == 0 ? null : Ids.decoded(title);
    }

    /** Whether the bundle knows an item. */
    public boolean has(Object item) {
        return items.find(item) >= 0;
    }

    /** The id of every item, by row. */
    public List<Object> items() {
        List<Object> all = new ArrayList<>(manifest.items.rows);
        for (int row = 0; row < manifest.items.rows; row++) {
            all.add(items.id(row));
        }
        return all;
    }

    /** A history that grows, and is forgotten with it. Throws RequestException in a bundle with users. */
    public Session session() {
        return session(null);
    }

    /**
     * A history that grows, and is kept in a file that only its owner may read.
     *
     * @throws RequestException in a bundle with users.
     * @throws MissingException where the file cannot be read, or holds something else.
     */
    public Session session(File store) {
        demandUsers(false);
        return new Session(this, store);
    }

    /** Release what onnxruntime holds, after the calls that are under way; what is asked afterwards is refused. */
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

    private void checkK(int k) {
        if (k < 1 || k > manifest.items.rows) {
            throw new RequestException("k must be a whole number in 1.." + manifest.items.rows + ", got " + k);
        }
    }

    private static void demandRequest(Request request) {
        if (request == null) {
            throw new RequestException("expected a request, got null; make one by Request.ofUser or Request.ofHistory");
        }
    }

    private void demandUsers(boolean wanted) {
        if ((users != null) != wanted) {
            throw new RequestException("this bundle has "
                    + (users == null ? "no users: give a history of items" : "users: give a user"));
        }
    }

    /** The rows of a history, each once; null of a user. */
    private long[] past(Request who) {
        if ((who.user == null) == (who.history == null)) {
            throw new RequestException("give either a user or a history of item ids");
        }
        demandUsers(who.user != null);
        return who.user == null ? Bundle.distinct(items.rows(who.history)) : null;
    }

    /** What the graphs take. */
    private Bundle.Feed asked(Request who, long[] past) {
        if (past == null) {
            return new Bundle.Feed().put("user", new long[] {users.row(who.user)}, 1);
        }
        if (manifest.graphs.containsKey("encode")) {
            return new Bundle.Feed().put("vector", vector(past), 1, manifest.d);
        }
        return new Bundle.Feed().row("history", padded(past));
    }

    private float[] vector(long[] past) {
        return finite(bundle.run("encode", new Bundle.Feed().row("history", padded(past))), "vector", manifest.d);
    }

    /** Rows, and a -1 where there are none: products over nothing differ by version. */
    private static long[] padded(long[] rows) {
        return rows.length == 0 ? PADDING : rows;
    }

    /** The best k without those excluded. */
    private List<Recommendation> ranked(Bundle.Feed feed, BitSet excluded, int k) {
        int left = manifest.items.rows - excluded.cardinality();
        return ranked("recommend", feed.row("exclude", padded(rows(excluded))), k, left);
    }

    /** @param left how many items the graph can answer at most. */
    private List<Recommendation> ranked(String graph, Bundle.Feed feed, int k, int left) {
        Map<String, Object> answer = bundle.run(graph, feed.put("k", new long[] {k}));
        Object found = answer.get("items");
        float[] scores = floats(answer, "scores");
        if (!(found instanceof long[]) || ((long[]) found).length != scores.length) {
            throw broken();
        }
        List<Recommendation> best = new ArrayList<>();
        for (int n = 0; n < scores.length; n++) {
            long row = ((long[]) found)[n];
            if (row >= manifest.items.rows || row < -1) {
                throw broken();
            }
            if (row >= 0) {
                demandFinite(scores[n]);
                best.add(new Recommendation(items.id((int) row), scores[n]));
            }
        }
        if (best.size() != Math.min(k, left)) { // a score of -inf would pass for an item that is excluded
            throw broken();
        }
        return best;
    }

    /** So many numbers, all of them finite. */
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

    /** The best of a list that is scored, of equal ones the lower row. */
    private List<Recommendation> best(long[] rows, Bundle.Feed feed, int k) {
        float[] scores = scored(feed, rows);
        Integer[] order = new Integer[rows.length];
        Arrays.setAll(order, n -> n);
        Arrays.sort(order, (a, b) -> Float.compare(scores[b], scores[a])); // stable, and rows ascend
        List<Recommendation> best = new ArrayList<>();
        for (Integer n : Arrays.asList(order).subList(0, Math.min(k, order.length))) {
            best.add(new Recommendation(items.id((int) rows[n]), scores[n]));
        }
        return best;
    }

    /** The most popular items, then any others by row, all with score 0, as their scores are without a history. */
    private List<Recommendation> popular(BitSet gone, BitSet allowed, int k) {
        if (manifest.popular == null) {
            throw new RequestException("the history is empty, and the bundle names no popular items");
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
        BitSet made = new BitSet();
        for (long row : rows) {
            made.set((int) row);
        }
        return made;
    }

    private static long[] rows(BitSet set) {
        return set.stream().asLongStream().toArray();
    }
}
