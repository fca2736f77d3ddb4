// One client's session: a child process that serves it.
#ifndef TVM_EFF_SESSION_H_
#define TVM_EFF_SESSION_H_

#include <cstddef>
#include <string>

#include "handshake.h"

namespace tvm_eff {

// What may end a wait from outside, as file descriptors to poll.
struct StopSource {
  // -1: not watched.
  int standard_input;
  int signal_pipe;

  // Whether it says stop, given what poll() returned for the two.
  bool Stopped(short input_events, short signal_events) const;
};

// Sends all of it, unless the client is gone.
bool SendAll(int socket, const void* data, size_t size, int flags = 0);

// Serves a client until it leaves, its time is over or its code crashes; closes its socket. Files
// that it uploads live in a new folder under `parent_folder`, removed afterwards. Returns false
// when `stop` ended it.
bool ServeSession(const Client& client, const std::string& parent_folder, int listener,
                  const StopSource& stop);

}  // namespace tvm_eff

#endif  // TVM_EFF_SESSION_H_
