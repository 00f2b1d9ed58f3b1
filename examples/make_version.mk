# A pipe fails where any of its programs does, by `.SHELLFLAGS`: GNU make 3.82 has it, and macOS comes with 3.81.
ifeq ($(filter oneshell,$(.FEATURES)),)
$(error this needs GNU make 3.82 or newer, and here is $(MAKE_VERSION). On macOS: brew install make, then gmake instead of make)
endif
