package android.widget;

import android.content.Context;

public class ListView extends AdapterView<ListAdapter> {
    public ListView(Context context) {
        super(context);
    }

    public void setAdapter(ListAdapter adapter) {}
}
