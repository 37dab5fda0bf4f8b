from benchmarks.scorers.runs import main

if __name__ == "__main__":
    raise SystemExit(main())
