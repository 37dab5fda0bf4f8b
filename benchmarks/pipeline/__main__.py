from benchmarks.pipeline.runs import main

if __name__ == "__main__":
    raise SystemExit(main())
