"""Android devices, through adb and a native runner."""
