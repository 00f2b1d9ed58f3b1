# The chain that every example shares: pairs in, a better model and the proof out.
#
# Set before including: BUILD (folder of results), MODEL, PAIRS (the csv2pairs command of the train split),
# and the files $(BUILD)/{dev,test…}.parquet by rules of your own.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

HERE := $(dir $(lastword $(MAKEFILE_LIST)))
include $(HERE)make_version.mk
MODEL ?= $(shell python $(HERE)base_model.py)
FILTER ?= --keep-top 0.97
MINE ?= --negatives 3 --range 1-30
TRAIN ?=

# Real pipes. simfilter and hnmine share their vectors, so that no text is encoded twice.
$(BUILD)/train.parquet: $(TABLE)
	@echo "== pairs, filtered, with hard negatives"
	@$(PAIRS) | simfilter --model $(MODEL) $(FILTER) --cache $(BUILD)/vectors --rejects $(BUILD)/rejects.parquet \
	  | hnmine --model $(MODEL) $(MINE) --cache $(BUILD)/vectors -o $@

$(BUILD)/model/model.safetensors: $(BUILD)/train.parquet $(BUILD)/dev.parquet
	@echo "== training"
	@rm -rf $(BUILD)/model
	@contrast-train $< --model $(MODEL) --eval $(BUILD)/dev.parquet $(TRAIN) -o $(BUILD)/model
