"""What a command line or a web page wants done with runs, without any terminal; `Service` is where to begin."""
