package org.edgerec;

import static org.edgerec.Demands.demand;
import static org.edgerec.Demands.refuses;

import java.io.File;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/**
 * A rarity changes the answers of recommend as expected, or is refused.
 *
 * <p>usage: java org.edgerec.Rarities EXPECTED      (EXPECTED: JSON, the `answered` bundles by path, each with requests
 * and their `items` and `scores`, and the `refused` ones, which do not say which items are rare)
 */
public final class Rarities {
    private static final double[] WRONG = {2.001, -3, Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};

    private Rarities() {}

    public static void main(String[] arguments) throws Exception {
        Map<?, ?> expected = (Map<?, ?>) Json.parse(Vectors.text(new File(arguments[0])));
        int answers = 0;
        for (Map.Entry<?, ?> one : ((Map<?, ?>) expected.get("answered")).entrySet()) {
            try (Recommender model = Recommender.load(new File((String) one.getKey()))) {
                for (Object request : (List<?>) one.getValue()) {
                    check(model, (Map<?, ?>) request);
                    answers++;
                }
                othersAreAsWithout(model);
                othersAreRefused(model);
            }
        }
        for (Object bundle : (List<?>) expected.get("refused")) {
            refused(new File((String) bundle));
        }
        System.out.println(answers + " answers are right");
        System.exit(0);
    }

    private static void check(Recommender model, Map<?, ?> fields) {
        Request request = request(fields).k(((Long) fields.get("k")).intValue())
                .rarity(((Number) fields.get("rarity")).doubleValue());
        if (fields.get("exclude") != null) {
            request.exclude((Collection<?>) fields.get("exclude"));
        }
        request.allow((Collection<?>) fields.get("allow"));
        List<?> items = (List<?>) fields.get("items");
        List<?> scores = (List<?>) fields.get("scores");
        List<Recommendation> found = model.recommend(request);
        demand(found.size() == items.size(), fields + ": " + found.size());
        for (int n = 0; n < found.size(); n++) {
            double score = ((Number) scores.get(n)).doubleValue();
            double off = Math.abs(found.get(n).score - score);
            demand(found.get(n).item.equals(items.get(n)), fields + ": " + found.get(n).item + " at " + n);
            demand(off <= 1e-4 * Math.abs(score) + 1e-5, fields + ": " + found.get(n).score + " at " + n);
        }
    }

    private static Request request(Map<?, ?> fields) {
        List<?> vector = (List<?>) fields.get("vector");
        if (vector == null) {
            return Request.ofHistory((List<?>) fields.get("history"));
        }
        float[] values = new float[vector.size()];
        for (int n = 0; n < values.length; n++) {
            values[n] = ((Number) vector.get(n)).floatValue();
        }
        return Request.ofVector(values);
    }

    /** Popular items, which answer an empty history, and a rarity of 0. */
    private static void othersAreAsWithout(Recommender model) {
        same(model.recommend(Request.ofHistory(Collections.emptyList()).rarity(2)), model.popular(10));
        List<Object> history = model.items().subList(0, 2);
        List<Recommendation> plain = model.recommend(Request.ofHistory(history));
        same(model.recommend(Request.ofHistory(history).rarity(0)), plain);
        same(model.recommend(Request.ofHistory(history).rarity(-0.0)), plain);
        Session session = model.session();
        history.forEach(session::add);
        same(model.recommend(session.request().rarity(1)), model.recommend(Request.ofHistory(history).rarity(1)));
    }

    private static void same(List<Recommendation> found, List<Recommendation> expected) {
        demand(found.size() == expected.size(), found.size());
        for (int n = 0; n < found.size(); n++) {
            demand(found.get(n).item.equals(expected.get(n).item), n);
            demand(found.get(n).score == expected.get(n).score, n);
        }
    }

    private static void othersAreRefused(Recommender model) throws Exception {
        for (double wrong : WRONG) {
            for (List<Object> history : Arrays.asList(model.items().subList(0, 2), Collections.emptyList())) {
                refuses(RequestException.class, "rarity must be a number in -2..2, got " + wrong,
                        () -> model.recommend(Request.ofHistory(history).rarity(wrong)));
            }
        }
    }

    private static void refused(File bundle) throws Exception {
        String message = "this bundle does not say which items are rare: rarity needs one without users of svd, lae with"
                + " the encoder 'sum', or a fitted linear encoder";
        try (Recommender model = Recommender.load(bundle)) {
            boolean users = model.metadata().users > 0;
            List<Object> history = model.items().subList(0, 2);
            for (double rarity : new double[] {0.5, -2}) {
                Request request = users ? Request.ofUser(1) : Request.ofHistory(history);
                refuses(RequestException.class, message, () -> model.recommend(request.rarity(rarity)));
                refuses(RequestException.class, message, () -> model.recommend(request.allow(history)));
                demand(!model.recommend(request.allow(null).rarity(0)).isEmpty(), bundle);
            }
        }
    }
}
