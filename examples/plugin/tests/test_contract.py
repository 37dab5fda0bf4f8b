"""What prunetune asks of every scorer and every optimizer."""

from prunetune.testing import optimizer_contract, scorer_contract

TestApoz = scorer_contract("apoz")
TestHalton = optimizer_contract("halton")
