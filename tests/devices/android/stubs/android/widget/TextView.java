package android.widget;

import android.content.Context;
import android.text.TextWatcher;
import android.view.View;

public class TextView extends View {
    public TextView(Context context) {
        super(context);
    }

    public void addTextChangedListener(TextWatcher watcher) {}

    public final void setHint(CharSequence hint) {}

    public void setSingleLine(boolean singleLine) {}

    public final void setText(CharSequence text) {}
}
