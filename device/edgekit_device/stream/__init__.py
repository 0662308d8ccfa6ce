"""A model over a stream: frames from a camera, a video, a folder, a WAV or a pipe in, one JSON line for each out."""
