package android.view;

import android.content.Context;

public class View {
    public interface OnLongClickListener {
        boolean onLongClick(View v);
    }

    public View(Context context) {}

    public void setFitsSystemWindows(boolean fitSystemWindows) {}

    public void setOnLongClickListener(OnLongClickListener l) {}

    public void setPadding(int left, int top, int right, int bottom) {}
}
