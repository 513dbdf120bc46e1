"""Views: crops on the CPU; colors there or on the device."""
