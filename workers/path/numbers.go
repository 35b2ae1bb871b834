package path

import (
	"context"

	"cloudengine/events"
)

// Numbers gives the number of each volume's device that is there, as 253:4.
func (w *Worker) Numbers(context.Context) (map[events.VolumeID]string, error) {
	devices, err := w.Mapper.List()
	if err != nil {
		return nil, err
	}
	out := map[events.VolumeID]string{}
	for _, d := range devices {
		if v, ok := volumeOf(d.UUID); ok {
			out[v] = d.DevNo
		}
	}
	return out, nil
}
