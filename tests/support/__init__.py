"""What several tests share: runs without training, sweeps to be killed, processes of their own."""
