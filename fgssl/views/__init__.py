"""Views: crops on the CPU, colors on the device."""
