package emit_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/emit"
	"github.com/inferloom/inferloom/moe/plan"
)

// parseVLLM and parseSGLang parse each command line on standard input as the engines do, and print what they make of some
// of it. An engine exits on a flag that it does not know.
const (
	parseVLLM = `
import json, sys
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.engine.arg_utils import AsyncEngineArgs
out = []
for args in json.load(sys.stdin):
    a = make_arg_parser(FlexibleArgumentParser()).parse_args(args[2:])
    e = AsyncEngineArgs.from_cli_args(a)
    out.append({"tp": e.tensor_parallel_size, "pp": e.pipeline_parallel_size, "dp": e.data_parallel_size, "ep": e.enable_expert_parallel,
      "kernel": e.all2all_backend, "redundant": e.eplb_config.num_redundant_experts, "start": e.data_parallel_start_rank, "overlap": e.enable_dbo})
print("result:" + json.dumps(out))
`
	parseSGLang = `
import argparse, json, sys
from sglang.srt.server_args import ServerArgs
out = []
for args in json.load(sys.stdin):
    p = argparse.ArgumentParser()
    ServerArgs.add_cli_args(p)
    a = p.parse_args(args[3:])
    out.append({"tp": a.tp_size, "pp": a.pp_size, "dp": a.dp_size, "ep": a.ep_size > 1, "kernel": a.moe_a2a_backend,
      "redundant": a.ep_num_redundant_experts, "start": a.node_rank, "overlap": a.enable_two_batch_overlap})
print("result:" + json.dumps(out))
`
)

type parsed struct {
	TP, PP, DP int
	EP         bool
	Kernel     string
	Redundant  int
	Start      *int
	Overlap    bool
}

func parse(t *testing.T, variable, program string, commands [][]string) []parsed {
	t.Helper()
	python := os.Getenv(variable)
	if python == "" {
		t.Skip(variable + " is not set")
	}
	input, err := json.Marshal(commands)
	require.NoError(t, err)
	cmd := exec.Command(python, "-c", program)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	go func() {
		stdin.Write(input)
		stdin.Close()
	}()
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	_, result, found := bytes.Cut(output, []byte("result:"))
	require.True(t, found, "%s", output)
	var out []parsed
	require.NoError(t, json.Unmarshal(result, &out))
	require.Len(t, out, len(commands))
	return out
}

func command(t *testing.T, p plan.Plan, node emit.Node) []string {
	t.Helper()
	args, err := emit.Command(p, node, emit.Options{ExpertLocation: "/etc/experts.json", Extra: []string{"--trust-remote-code"}})
	require.NoError(t, err)
	return args
}

func TestVLLMReadsCommands(t *testing.T) {
	nvlink := wide(accel.VLLM, plan.Decode, 2, 1)
	nvlink.Deployment.AllToAll = accel.NVLinkAllToAll
	amd := wide(accel.VLLM, plan.Both, 2, 1)
	amd.Deployment.System.Accelerator.Vendor = "amd"
	got := parse(t, "EMIT_VLLM", parseVLLM, [][]string{
		command(t, wide(accel.VLLM, plan.Both, 4, 2), emit.Node{Index: 3, Leader: "leader.example"}),
		command(t, deep(accel.VLLM, 2), emit.Node{Index: 1, Leader: "10.0.0.1"}),
		command(t, nvlink, emit.Node{Index: 0, Leader: "10.0.0.1"}),
		command(t, amd, emit.Node{Index: 0, Leader: "10.0.0.1"}),
	})
	at := func(n int) *int { return &n }
	require.Equal(t, []parsed{
		{TP: 1, PP: 1, DP: 32, EP: true, Kernel: "deepep_low_latency", Redundant: 32, Start: at(24), Overlap: true},
		{TP: 8, PP: 2, DP: 1, EP: true, Kernel: "allgather_reducescatter"},
		{TP: 1, PP: 1, DP: 16, EP: true, Kernel: "flashinfer_nvlink_one_sided", Redundant: 32, Start: at(0), Overlap: true},
		{TP: 1, PP: 1, DP: 16, EP: true, Kernel: "mori_low_latency", Redundant: 32, Start: at(0), Overlap: true},
	}, got)
}

func TestSGLangReadsCommands(t *testing.T) {
	got := parse(t, "EMIT_SGLANG", parseSGLang, [][]string{
		command(t, wide(accel.SGLang, plan.Decode, 9, 1), emit.Node{Index: 8, Leader: "leader.example"}),
		command(t, wide(accel.SGLang, plan.Both, 1, 1), emit.Node{}),
		command(t, deep(accel.SGLang, 2), emit.Node{Index: 1, Leader: "10.0.0.1"}),
	})
	at := func(n int) *int { return &n }
	require.Equal(t, []parsed{
		{TP: 72, PP: 1, DP: 72, EP: true, Kernel: "deepep", Redundant: 32, Start: at(8), Overlap: true},
		{TP: 8, PP: 1, DP: 8, EP: true, Kernel: "deepep", Redundant: 32, Start: at(0), Overlap: true},
		{TP: 8, PP: 2, DP: 1, EP: true, Kernel: "none", Start: at(1)},
	}, got)
}
