package org.edgerec.example;

import android.app.Activity;
import android.os.Bundle;
import android.text.Editable;
import android.text.TextWatcher;
import android.view.View;
import android.widget.ArrayAdapter;
import android.widget.EditText;
import android.widget.LinearLayout;
import android.widget.ListView;
import android.widget.TextView;

import org.edgerec.Bundles;
import org.edgerec.EdgeRecException;
import org.edgerec.Options;
import org.edgerec.Recommendation;
import org.edgerec.Recommender;
import org.edgerec.Session;

import java.io.File;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * An activity to search titles and tap those that the user likes; recommendations are computed on the device and shown
 * while the search field is empty. A long tap on the line above them clears the history.
 */
public final class MainActivity extends Activity {
    private static final int SHOWN = 30;

    /** Runs all calls of the recommender in order, so that the main thread never blocks. */
    private final ExecutorService worker = Executors.newSingleThreadExecutor();
    private final List<Object> listed = new ArrayList<>();
    private ArrayAdapter<String> lines;
    private TextView state;
    private String wanted = "";
    private Recommender model;
    private Session history;

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        state = new TextView(this);
        state.setText("Opening");
        state.setPadding(32, 16, 32, 16);
        state.setOnLongClickListener(view -> ask(() -> history.forget()));
        EditText search = new EditText(this);
        search.setHint("Search titles");
        search.setSingleLine(true);
        search.addTextChangedListener(new Typed());
        lines = new ArrayAdapter<>(this, android.R.layout.simple_list_item_1);
        ListView list = new ListView(this);
        list.setAdapter(lines);
        list.setOnItemClickListener((parent, view, place, id) -> {
            Object item = listed.get(place);
            search.setText("");
            ask(() -> history.add(item));
        });
        LinearLayout page = new LinearLayout(this);
        page.setOrientation(LinearLayout.VERTICAL);
        page.setFitsSystemWindows(true);
        for (View part : new View[] {search, state, list}) {
            page.addView(part);
        }
        setContentView(page);
        ask(() -> {});
    }

    @Override
    protected void onDestroy() {
        worker.execute(() -> {
            if (model != null) {
                model.close();
            }
        });
        worker.shutdown();
        super.onDestroy();
    }

    /** Install the bundle, because assets are no files that can be mapped, and open it. */
    private void open() {
        File folder = new File(getNoBackupFilesDir(), "films.bundle");
        Bundles.install(name -> getAssets().open("films.bundle/" + name), folder);
        model = Recommender.load(folder, new Options().verify(false)); // `install` did
        history = model.session(new File(getNoBackupFilesDir(), "history.json"));
    }

    /** Run an action, then show the results. */
    private boolean ask(Runnable act) {
        String words = wanted;
        worker.execute(() -> {
            try {
                if (history == null) {
                    open();
                }
                act.run();
                show(words);
            } catch (EdgeRecException error) {
                runOnUiThread(() -> state.setText(error.getMessage()));
            }
        });
        return true;
    }

    private void show(String words) {
        List<Object> items = new ArrayList<>();
        long started = System.nanoTime();
        if (words.isEmpty()) {
            for (Recommendation one : history.recommend(Math.min(SHOWN, model.metadata().items))) {
                items.add(one.item);
            }
        } else {
            for (Object item : model.items()) {
                if (items.size() < SHOWN && title(item).toLowerCase(Locale.ROOT).contains(words)) {
                    items.add(item);
                }
            }
        }
        double milliseconds = (System.nanoTime() - started) / 1e6;
        List<String> titles = new ArrayList<>();
        for (Object item : items) {
            titles.add(title(item));
        }
        String said = String.format(Locale.getDefault(), "%d liked, %d KB, %.1f ms",
                history.items().size(), model.metadata().bytes / 1000, milliseconds);
        runOnUiThread(() -> {
            listed.clear();
            listed.addAll(items);
            lines.clear();
            lines.addAll(titles);
            state.setText(said);
        });
    }

    private String title(Object item) {
        String title = model.title(item);
        return title == null ? String.valueOf(item) : title;
    }

    private final class Typed implements TextWatcher {
        @Override
        public void beforeTextChanged(CharSequence text, int start, int count, int after) {}

        @Override
        public void onTextChanged(CharSequence text, int start, int before, int count) {}

        @Override
        public void afterTextChanged(Editable text) {
            wanted = text.toString().trim().toLowerCase(Locale.ROOT);
            ask(() -> {});
        }
    }
}
