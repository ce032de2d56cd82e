# Compiler flags, libraries by folder, and the rules that build them. Included by Makefile.
#
# Each source folder becomes one static library. LINK_<folder> names what a user of that folder
# links: itself and the folders below it, the same directions as tests/layers.tsv.

WARN := -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wformat=2 -Wvla -Wundef -Wpointer-arith
BASE_FLAGS := -std=gnu17 -D_GNU_SOURCE -I. -I$(OUT)/gen -g -fno-strict-aliasing \
              -fstack-protector-strong -pthread -DSANDPIT_VERSION='"$(VERSION)"'
HARDEN := -fPIE -fstack-clash-protection -fcf-protection
HARDEN_LD := -pie -Wl,-z,relro,-z,now,-z,noexecstack

FLAGS_release := -O2 -D_FORTIFY_SOURCE=2 -ffunction-sections -fdata-sections $(HARDEN)
FLAGS_debug := -DSANDPIT_FAULTS -O0 $(HARDEN)
FLAGS_asan := -DSANDPIT_FAULTS -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
FLAGS_tsan := -DSANDPIT_FAULTS -O1 -fno-omit-frame-pointer -fsanitize=thread
FLAGS_cov := -DSANDPIT_FAULTS -O0 --coverage
LDFLAGS_release := $(HARDEN_LD)
LDFLAGS_debug := $(HARDEN_LD)
LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_tsan := -fsanitize=thread
LDFLAGS_cov := --coverage

# envd is one static file; the sanitizers cannot link statically.
ENVD_LD_debug := -static-pie -Wl,-z,relro,-z,now,-z,noexecstack
# Part of libsodium that only its own failures would need is 150 KB: --defsym leaves it out.
ENVD_LD_release := $(ENVD_LD_debug) -Wl,--gc-sections -Wl,--build-id \
                   -Wl,--defsym,sodium_misuse=abort
ENVD_LD_asan := $(LDFLAGS_asan)
ENVD_LD_tsan := $(LDFLAGS_tsan)
ENVD_LD_cov := -static --coverage

ifeq ($(FLAGS_$(BUILD)),)
$(error BUILD must be debug, release, asan, tsan or cov, not '$(BUILD)')
endif

CFLAGS_ALL := $(BASE_FLAGS) $(WARN) $(FLAGS_$(BUILD)) $(CFLAGS)
LDFLAGS_ALL := -pthread $(LDFLAGS_$(BUILD)) $(LDFLAGS)

# V=1 shows whole commands.
Q := $(if $(V),,@)

FOLDERS := base model mapper loop store auth engine local kubernetes build lifecycle observe http proxy api \
           client gateway
SRC_base := $(wildcard server/base/*.c)
SRC_model := $(wildcard server/model/*.c)
SRC_mapper := $(wildcard mapper/*.c)
SRC_loop := $(wildcard server/loop/*.c)
SRC_store := $(wildcard server/store/*.c)
SRC_auth := $(wildcard server/auth/*.c)
SRC_engine := $(wildcard server/engine/*.c)
SRC_local := $(wildcard server/engine/local/*.c)
SRC_kubernetes := $(wildcard server/engine/kubernetes/*.c)
SRC_build := $(wildcard server/build/*.c)
SRC_lifecycle := $(wildcard server/lifecycle/*.c)
SRC_observe := $(wildcard server/observe/*.c)
SRC_http := $(wildcard server/http/*.c)
SRC_proxy := $(wildcard server/proxy/*.c)
SRC_api := $(wildcard server/api/*.c)
SRC_client := $(wildcard server/client/*.c)
SRC_gateway := $(wildcard server/gateway/*.c)
SRC_server := $(wildcard server/*.c)
SRC_envd := $(wildcard envd/*.c envd/connect/*.c)

PROTOS := $(wildcard openapi/*.proto envd/*.proto)
PROTO_C := $(PROTOS:%.proto=$(OUT)/gen/%.pb-c.c)
PROTO_O := $(PROTO_C:.c=.o)
PROTO_H := $(PROTO_C:.c=.h)

obj = $(patsubst %.c,$(OUT)/obj/%.o,$(1))
lib = $(foreach f,$(1),$(if $(SRC_$(f)),$(OUT)/lib$(f).a))

LINK_base := base
LINK_model := model base
LINK_mapper := mapper $(LINK_model)
LINK_loop := loop $(LINK_base)
LINK_store := store loop $(LINK_mapper)
LINK_auth := auth $(LINK_store)
LINK_engine := engine loop $(LINK_mapper)
LINK_local := local $(LINK_engine)
LINK_kubernetes := kubernetes $(LINK_engine)
LINK_build := build store $(LINK_engine)
LINK_lifecycle := lifecycle build auth engine $(LINK_store)
LINK_observe := observe $(LINK_lifecycle)
LINK_http := http $(LINK_loop)
LINK_proxy := proxy $(LINK_lifecycle)
LINK_api := api http $(LINK_observe)
LINK_client := client $(LINK_model)
LINK_gateway := gateway $(LINK_model)
LINK_server := gateway client api http proxy observe lifecycle build local kubernetes engine auth store loop mapper model base
LINK_envd := base

SYS_base := -ljansson -lsodium
SYS_server := -lh2o-evloop -lssl -lcrypto -lsqlite3 -ljwt -lgit2 -larchive -lseccomp -lcurl \
              -ljansson -lsodium -lz
SYS_envd := -lprotobuf-c -ljansson -lsodium -lz

$(OUT)/sandpit: $(call obj,$(SRC_server)) $(call lib,$(LINK_server))
	@mkdir -p $(@D)
	@echo '  CC $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(call obj,$(SRC_server)) \
	  -Wl,--start-group $(call lib,$(LINK_server)) -Wl,--end-group $(SYS_server)

# Every sandbox maps it: symbols go to a file beside it, where gdb and perf look for them.
split_debug = objcopy --only-keep-debug $(1) $(1).debug && \
  objcopy --strip-all --add-gnu-debuglink=$(1).debug $(1)

$(OUT)/envd: $(call obj,$(SRC_envd)) $(PROTO_O) $(call lib,base)
	@mkdir -p $(@D)
	@echo '  CC $@'
	$(Q)$(CC) -pthread $(ENVD_LD_$(BUILD)) -o $@ $(call obj,$(SRC_envd)) $(PROTO_O) \
	  $(call lib,base) $(SYS_envd)
	$(Q)$(if $(filter release,$(BUILD)),$(call split_debug,$@))

define library
$(OUT)/lib$(1).a: $(call obj,$(SRC_$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(Q)$(AR) rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(if $(SRC_$(f)),$(eval $(call library,$(f)))))

$(OUT)/obj/%.o: %.c build.mk
	@mkdir -p $(@D)
	@echo '  CC $@'
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(call obj,$(SRC_envd)): | $(PROTO_H)

# .incbin is no #include: -MMD does not see it
$(OUT)/obj/server/api/openapi.o: openapi/platform.yaml openapi/envd.yaml
$(OUT)/obj/tests/unit/envd/openapi_test.o: openapi/envd.yaml

$(OUT)/gen/%.pb-c.c $(OUT)/gen/%.pb-c.h &: %.proto
	@mkdir -p $(@D)
	@echo '  PROTOC $@'
	$(Q)protoc-c --proto_path=. --c_out=$(OUT)/gen $<

$(OUT)/gen/%.pb-c.o: $(OUT)/gen/%.pb-c.c
	@echo '  CC $@'
	$(Q)$(CC) $(filter-out -Werror $(WARN),$(CFLAGS_ALL)) -c -o $@ $<

# Unit tests: tests/unit/<folder>/<name>_test.c links that folder and those below it.
# tests/unit/envd/ and tests/unit/server/ link the program's objects without its main.
UNIT_SRC := $(wildcard tests/unit/*/*_test.c)
UNIT_BIN := $(UNIT_SRC:%.c=$(OUT)/%)
unit_folder = $(word 3,$(subst /, ,$(1)))
ENVD_TEST_OBJ := $(filter-out $(OUT)/obj/envd/main.o,$(call obj,$(SRC_envd))) $(PROTO_O)
# of server/: what parses and checks; the rest needs every part
SERVER_TEST_OBJ := $(call obj,$(wildcard server/config*.c server/options.c server/dev_cert.c))
unit_obj = $(if $(filter envd,$(1)),$(ENVD_TEST_OBJ)) $(if $(filter server,$(1)),$(SERVER_TEST_OBJ))
unit_link = $(if $(filter server,$(1)),gateway loop mapper model base,$(LINK_$(1)))

define unit
$(OUT)/$(basename $(1)): $(call obj,$(1)) $(call lib,$(call unit_link,$(call unit_folder,$(1)))) \
  $(call unit_obj,$(call unit_folder,$(1)))
	@mkdir -p $$(@D)
	@echo '  LD $$@'
	$$(Q)$$(CC) $$(LDFLAGS_ALL) -o $$@ $(call obj,$(1)) \
	  $(call unit_obj,$(call unit_folder,$(1))) \
	  -Wl,--start-group $(call lib,$(call unit_link,$(call unit_folder,$(1)))) -Wl,--end-group \
	  -lcmocka $(if $(filter envd,$(call unit_folder,$(1))),$(SYS_envd),\
	  $(if $(filter base model mapper,$(call unit_folder,$(1))),$(SYS_base),$(SYS_server)))
endef
$(foreach t,$(UNIT_SRC),$(eval $(call unit,$(t))))
$(foreach t,$(filter tests/unit/envd/%,$(UNIT_SRC)),$(eval $(call obj,$(t)): | $(PROTO_H)))

.PHONY: unit
unit: $(UNIT_BIN)

# The HTTP test server of tests/integration/http_test.py.
HTTP_TEST_SERVER := $(OUT)/tests/integration/http_server
$(HTTP_TEST_SERVER): $(call obj,tests/integration/http_server.c) $(call lib,$(LINK_http))
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(call obj,tests/integration/http_server.c) \
	  -Wl,--start-group $(call lib,$(LINK_http)) -Wl,--end-group $(SYS_server)

# The proxy alone, of tests/integration/proxy_test.py; the lifecycle and engine are its own.
PROXY_TEST_SERVER := $(OUT)/tests/integration/proxy_server
PROXY_TEST_LIBS := proxy auth store loop mapper model base
$(PROXY_TEST_SERVER): $(call obj,tests/integration/proxy_server.c) $(call lib,$(PROXY_TEST_LIBS))
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(call obj,tests/integration/proxy_server.c) \
	  -Wl,--start-group $(call lib,$(PROXY_TEST_LIBS)) -Wl,--end-group $(SYS_server)

# The egress gateway alone, of tests/integration/gateway_test.py.
GATEWAY_TEST_SERVER := $(OUT)/tests/integration/gateway_server
$(GATEWAY_TEST_SERVER): $(call obj,tests/integration/gateway_server.c) $(call lib,$(LINK_gateway))
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(call obj,tests/integration/gateway_server.c) \
	  -Wl,--start-group $(call lib,$(LINK_gateway)) -Wl,--end-group $(SYS_server)

# The fast client of tests/integration/envd_load_test.py; it runs in processes of envd too.
PROCESS_CLIENT := $(OUT)/tests/integration/process_client
PROCESS_CLIENT_OBJ := $(call obj,tests/integration/process_client.c \
  tests/integration/process_stream.c)
$(PROCESS_CLIENT): $(PROCESS_CLIENT_OBJ)
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^

# The Platform API on an engine in memory, of tests/integration/api_test.py.
API_TEST_SERVER := $(OUT)/tests/integration/api_server
$(API_TEST_SERVER): $(call obj,tests/integration/api_server.c) $(call lib,$(LINK_api))
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(call obj,tests/integration/api_server.c) \
	  -Wl,--start-group $(call lib,$(LINK_api)) -Wl,--end-group $(SYS_server)

# The local engine with real namespaces, as root: tests/integration/engine_test.sh. Its sandboxes
# run engine_init, a static stand-in for envd, so that the engine is tested alone.
ENGINE_TEST := $(OUT)/tests/integration/engine_test
ENGINE_TEST_OBJ := $(call obj,tests/integration/engine_test.c tests/integration/engine_lib.c)
$(ENGINE_TEST): $(ENGINE_TEST_OBJ) $(call lib,$(LINK_local)) $(OUT)/tests/integration/engine_init
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(ENGINE_TEST_OBJ) \
	  -Wl,--start-group $(call lib,$(LINK_local)) -Wl,--end-group $(SYS_server)

# The same engine's files: tests/integration/storage_test.sh.
STORAGE_TEST := $(OUT)/tests/integration/storage_test
STORAGE_TEST_OBJ := $(call obj,tests/integration/storage_test.c tests/integration/engine_lib.c)
$(STORAGE_TEST): $(STORAGE_TEST_OBJ) $(call lib,$(LINK_local)) $(OUT)/tests/integration/engine_init
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(STORAGE_TEST_OBJ) \
	  -Wl,--start-group $(call lib,$(LINK_local)) -Wl,--end-group $(SYS_server)

$(OUT)/tests/integration/engine_init: tests/integration/engine_init.c
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARN) -O1 -static -o $@ $<

# The clients of `make bench`.
BENCH_LOAD := $(OUT)/tests/bench/load
BENCH_SSH := $(OUT)/tests/bench/ssh_load
$(BENCH_LOAD): $(call obj,tests/bench/load.c tests/bench/load_reply.c)
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^

$(BENCH_SSH): $(call obj,tests/bench/ssh_load.c)
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -lssh2

.PHONY: bench-clients
bench-clients: $(BENCH_LOAD) $(BENCH_SSH)

# The same envd but for its version: what takes over in tests/integration/envd_upgrade_test.py.
NEXT_SRC := $(shell grep -l ENVD_VERSION envd/*.c)
NEXT_OBJ := $(NEXT_SRC:%.c=$(OUT)/obj/next/%.o)
$(OUT)/obj/next/%.o: %.c build.mk | $(PROTO_H)
	@mkdir -p $(@D)
	@echo '  CC $@'
	$(Q)$(CC) $(CFLAGS_ALL) -DENVD_VERSION='"0.6.99"' -MMD -MP -c -o $@ $<
ENVD_NEXT := $(OUT)/tests/integration/envd_next
$(ENVD_NEXT): $(NEXT_OBJ) $(call obj,$(filter-out $(NEXT_SRC),$(SRC_envd))) $(PROTO_O) $(call lib,base)
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) -pthread $(ENVD_LD_$(BUILD)) -o $@ $(filter %.o,$^) $(call lib,base) $(SYS_envd)

ENVD_BAD := $(OUT)/tests/integration/envd_bad
$(ENVD_BAD): tests/integration/envd_bad.c
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARN) -O1 -static -o $@ $<

# envd's HTTP, RPC and connect/ code behind the Connect conformance suite's methods; no part of
# envd. tests/conformance/run.sh takes the suite's .proto files from its Go module to
# CONFORMANCE_PROTO and makes this.
CONFORMANCE_PROTO ?= build/conformance/proto
CONFORMANCE := $(OUT)/tests/conformance/server
CONFORMANCE_GEN := $(OUT)/gen/conformance
CONFORMANCE_PROTOS := $(addprefix connectrpc/conformance/v1/,config.proto service.proto \
                        server_compat.proto) google/protobuf/any.proto
CONFORMANCE_C := $(CONFORMANCE_PROTOS:%.proto=$(CONFORMANCE_GEN)/%.pb-c.c)
CONFORMANCE_OBJ := $(patsubst %.c,$(OUT)/obj/%.o,$(wildcard tests/conformance/*.c)) \
                   $(CONFORMANCE_C:.c=.o)

$(CONFORMANCE_C) &: $(addprefix $(CONFORMANCE_PROTO)/,$(CONFORMANCE_PROTOS))
	@mkdir -p $(CONFORMANCE_GEN)
	@echo '  PROTOC $(CONFORMANCE_GEN)'
	$(Q)cd $(CONFORMANCE_PROTO) && \
	  protoc-c --proto_path=. --c_out=$(abspath $(CONFORMANCE_GEN)) $(CONFORMANCE_PROTOS)

$(CONFORMANCE_GEN)/%.pb-c.o: $(CONFORMANCE_GEN)/%.pb-c.c
	$(Q)$(CC) $(filter-out -Werror $(WARN),$(CFLAGS_ALL)) -I$(CONFORMANCE_GEN) -c -o $@ $<

$(OUT)/obj/tests/conformance/%.o: tests/conformance/%.c build.mk $(CONFORMANCE_C) | $(PROTO_H)
	@mkdir -p $(@D)
	@echo '  CC $@'
	$(Q)$(CC) $(CFLAGS_ALL) -isystem $(CONFORMANCE_GEN) -MMD -MP -c -o $@ $<

$(CONFORMANCE): $(CONFORMANCE_OBJ) $(filter-out %/envd/route.o,$(ENVD_TEST_OBJ)) $(call lib,base)
	@mkdir -p $(@D)
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(CONFORMANCE_OBJ) \
	  $(filter-out %/envd/route.o,$(ENVD_TEST_OBJ)) $(call lib,base) $(SYS_envd)

.PHONY: conformance
conformance: $(CONFORMANCE)

.PHONY: integration
integration: $(ENVD_NEXT) $(ENVD_BAD) $(HTTP_TEST_SERVER) $(PROCESS_CLIENT) $(PROXY_TEST_SERVER) \
  $(GATEWAY_TEST_SERVER) \
  $(API_TEST_SERVER) $(ENGINE_TEST) $(STORAGE_TEST)

# Fuzz targets: tests/fuzz/<folder>_<name>.c defines LLVMFuzzerTestOneInput. Built twice: with
# libFuzzer (`make fuzz`, clang) and with a driver that replays the corpus (`make check`, any build).
FUZZ_SRC := $(filter-out tests/fuzz/driver.c,$(wildcard tests/fuzz/*.c))
FUZZ_REPLAY := $(FUZZ_SRC:%.c=$(OUT)/%_replay)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/%)
fuzz_folder = $(firstword $(subst _, ,$(notdir $(basename $(1)))))
fuzz_src = $(foreach f,$(LINK_$(1)),$(SRC_$(f))) \
  $(if $(filter envd,$(1)),$(filter-out envd/main.c,$(SRC_envd)) $(PROTO_C))
CLANG ?= clang
FUZZ_FLAGS := -std=gnu17 -D_GNU_SOURCE -I. -I$(OUT)/gen -g -O1 -w -pthread -DSANDPIT_VERSION='"fuzz"' \
  -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined

define fuzzer
$(OUT)/$(basename $(1))_replay: $(call obj,$(1) tests/fuzz/driver.c) \
  $(call lib,$(LINK_$(call fuzz_folder,$(1)))) \
  $(if $(filter envd,$(call fuzz_folder,$(1))),$(ENVD_TEST_OBJ))
	@mkdir -p $$(@D)
	@echo '  LD $$@'
	$$(Q)$$(CC) $$(LDFLAGS_ALL) -o $$@ $(call obj,$(1) tests/fuzz/driver.c) \
	  $(if $(filter envd,$(call fuzz_folder,$(1))),$(ENVD_TEST_OBJ)) \
	  -Wl,--start-group $(call lib,$(LINK_$(call fuzz_folder,$(1)))) -Wl,--end-group \
	  $(if $(filter envd,$(call fuzz_folder,$(1))),$(SYS_envd),\
	  $(if $(filter base model mapper,$(call fuzz_folder,$(1))),$(SYS_base),$(SYS_server)))
build/fuzz/$(notdir $(basename $(1))): $(1) $(call fuzz_src,$(call fuzz_folder,$(1))) | $(PROTO_H)
	@mkdir -p $$(@D)
	@echo '  FUZZ $$@'
	$$(Q)$$(CLANG) $$(FUZZ_FLAGS) -o $$@ $(1) $(call fuzz_src,$(call fuzz_folder,$(1))) \
	  $(if $(filter envd,$(call fuzz_folder,$(1))),$(SYS_envd),\
	  $(if $(filter base model mapper,$(call fuzz_folder,$(1))),$(SYS_base),$(SYS_server)))
endef
$(foreach t,$(FUZZ_SRC),$(eval $(call fuzzer,$(t))))
$(foreach t,$(filter tests/fuzz/envd_%,$(FUZZ_SRC)),$(eval $(call obj,$(t)): | $(PROTO_H)))

.PHONY: fuzz-replay
fuzz-replay: $(FUZZ_REPLAY)

.PHONY: fuzz-build
fuzz-build: $(FUZZ_BIN)

fuzz:
	deploy/deps.sh fuzz
	$(MAKE) fuzz-build
	tests/fuzz/run.sh $(SECONDS_EACH) $(FUZZ_BIN)

FORMAT_FILES := $(shell git ls-files '*.c' '*.h' 2>/dev/null)

ALL_OBJ := $(call obj,$(foreach f,$(FOLDERS) server envd,$(SRC_$(f))) $(UNIT_SRC) $(FUZZ_SRC) tests/fuzz/driver.c \
  tests/integration/http_server.c tests/integration/proxy_server.c tests/integration/api_server.c \
  tests/integration/process_client.c tests/integration/process_stream.c \
  $(wildcard tests/bench/*.c))
-include $(ALL_OBJ:.o=.d) $(NEXT_OBJ:.o=.d)
