from benchmarks.signal_drill.runs import main

if __name__ == "__main__":
    raise SystemExit(main())
