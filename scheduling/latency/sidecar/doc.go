// Package sidecar asks llm-d's latency predictor, a pair of HTTP servers beside the gateway, in place of latency.Model.
//
//	p, err := sidecar.New(sidecar.Options{Pool: pool, Prediction: []string{"http://127.0.0.1:8001"}, Training: "http://127.0.0.1:8000"})
//	go p.Run(ctx) // sends what was observed
//	profile.Producers = append(profile.Producers, p)
//
// A [Predictor] is a producer: each pick asks once, for all endpoints of the model, with POST /predict/bulk/strict. What it is
// told of requests (it is a gateway.Learner) is sent in bulk to POST /add_training_data_bulk. The wire format is that of
// llm-d-latency-predictor in August 2026.
//
// # Caveats
//
// A pick waits for the answer, some milliseconds and at most Options.Timeout; without one it goes on without predictions. The
// servers predict one quantile, so that Prediction.Meets is no more than that quantile where the prediction is within the
// objectives, and the rest where it is not. latency.Model has neither cost.
package sidecar
