"""Run packages on this machine and measure them."""
