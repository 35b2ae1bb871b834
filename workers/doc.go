// Package workers is what every agent on a machine does, whatever it manages: keep the documents of DESIRED, observe, plan, apply
// one step after another, and report until answered.
//
// It promises that an older document never wins over a newer one, that the steps of one object never run at the same time, that
// every plan is made from an observation that is newer than the last step of its object, and that a report is repeated with the
// same bytes until it is answered. It knows nothing of Xen, and keeps nothing that the next process cannot observe again, except
// the documents and a counter.
package workers
